// node-postgres reads masked columns of every type: tests/gateway/test_masked_types.py.
// Argument: JSON {host, port, user, password, database, tables}. Output: one line of JSON per table and format.
'use strict'
const { Client } = require('pg')

const plan = JSON.parse(process.argv[2])

async function main() {
  const { host, port, user, password, database } = plan
  const db = new Client({ host, port, user, password, database, ssl: false, query_timeout: 60000 })
  await db.connect()
  for (const table of plan.tables) {
    for (const binary of [false, true]) {
      const said = { table, binary, read: 0, faults: [], values: [] }
      try {
        const answer = await db.query({ text: `SELECT * FROM ${table} ORDER BY id`, values: [], binary, rowMode: 'array' })
        for (const row of answer.rows) {
          for (const value of row) {
            said.read++
            said.values.push(value === null ? null : typeof value === 'object' ? JSON.stringify(value) : String(value))
          }
        }
      } catch (error) {
        said.faults.push(`${error.code}: ${error.message}`)
      }
      console.log(JSON.stringify(said))
    }
  }
  await db.end()
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
