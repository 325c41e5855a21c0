// node-postgres against the gateway: the tasks of tests/gateway/test_matrix.py, once per target.
// Argument: JSON {host, port, user, password, targets: [{name, tls}]}. Output: one line of JSON per target.
'use strict'
const { Client } = require('pg')
const copy = require('pg-copy-streams')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')

const plan = JSON.parse(process.argv[2])
const MASKED = 'SELECT id, name, ssn, email, salary, phone FROM customers ORDER BY id'

function settings(target) {
  return {
    host: plan.host, port: plan.port, user: plan.user, password: plan.password, database: target.name,
    ssl: target.tls ? { rejectUnauthorized: false } : false, connectionTimeoutMillis: 20000, query_timeout: 30000,
  }
}

const text = (value) => (value === null ? null : String(value))
const masked = (answer) => answer.rows.map((row) => Object.values(row).map(text))

async function tasks(db, target) {
  const done = {}
  done.simple = (await db.query('SELECT 40 + 2 AS n')).rows[0].n
  done.parameter = Number((await db.query('SELECT $1::int + 1 AS n', [41])).rows[0].n)
  done.prepared = []
  for (let i = 1; i <= 3; i++) {
    const answer = await db.query({ name: 'twice', text: 'SELECT $1::int * 2 AS n', values: [i] })
    done.prepared.push(answer.rows[0].n)
  }
  done.masked_text = masked(await db.query(MASKED))
  done.masked_binary = masked(await db.query({ text: MASKED, values: [], binary: true }))

  const parts = []
  for await (const part of db.query(copy.to('COPY (SELECT id, ssn, email FROM customers ORDER BY id) TO STDOUT'))) {
    parts.push(part)
  }
  done.copy_out = Buffer.concat(parts).toString()
  const lines = Array.from({ length: 500 }, (_, i) => `${i}\tnode\n`)
  await pipeline(Readable.from(lines), db.query(copy.from('COPY scratch FROM STDIN')))
  done.copy_in = (await db.query('DELETE FROM scratch WHERE txt = $1', ['node'])).rowCount

  const notices = []
  db.on('notice', (notice) => notices.push(notice.message))
  await db.query('CREATE TABLE IF NOT EXISTS scratch (id int)')
  done.notice = notices[0]
  done.error = await db.query('SELECT 1 / 0').then(() => '', (error) => error.code)
  const large = await db.query("SELECT repeat('x', 500) AS x FROM generate_series(1, 20000)")
  done.large = [large.rows.length, large.rows.reduce((sum, row) => sum + row.x.length, 0)]

  const heard = new Promise((resolve) => db.on('notification', (message) => resolve(message.payload)))
  await db.query('LISTEN node')
  await db.query("NOTIFY node, 'hello'")
  done.notified = await heard

  const asleep = db.query('SELECT pg_sleep(30)').then(() => '', (error) => error.code)
  const running = db.activeQuery || db._activeQuery
  setTimeout(() => new Client(settings(target)).cancel(db, running), 300)
  done.canceled = await asleep
  done.afterwards = (await db.query('SELECT 7 AS n')).rows[0].n
  return done
}

async function main() {
  for (const target of plan.targets) {
    const db = new Client(settings(target))
    let line
    try {
      await db.connect()
      line = { target: target.name, done: await tasks(db, target) }
    } catch (error) {
      line = { target: target.name, failed: String(error.stack || error) }
    }
    await db.end().catch(() => {})
    console.log(JSON.stringify(line))
  }
}

main().then(() => process.exit(0))
