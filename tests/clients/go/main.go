// pgx against the gateway: the tasks of tests/gateway/test_matrix.py, once per target.
// Argument: JSON {host, port, user, password, targets: [{name, tls}]}. Output: one line of JSON per target.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const masked = "SELECT id, name, ssn, email, salary, phone FROM customers ORDER BY id"

type target struct {
	Name string `json:"name"`
	TLS  bool   `json:"tls"`
}

type plan struct {
	Host, User, Password string
	Port                 int
	Targets              []target
}

func settings(p plan, t target, notices *[]string) *pgx.ConnConfig {
	mode := "disable"
	if t.TLS {
		mode = "require"
	}
	config, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s:%s@%s:%d/%s?sslmode=%s&connect_timeout=20",
		url.QueryEscape(p.User), url.QueryEscape(p.Password), p.Host, p.Port, t.Name, mode))
	check(err)
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { *notices = append(*notices, n.Message) }
	return config
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func code(err error) string {
	if failure, ok := err.(*pgconn.PgError); ok {
		return failure.Code
	}
	return fmt.Sprint(err)
}

// Every column as text: the server's own, or what pgx makes of the binary value.
func rows(ctx context.Context, db *pgx.Conn, format int16) [][]any {
	answer, err := db.Query(ctx, masked, pgx.QueryResultFormats{format})
	check(err)
	defer answer.Close()
	all := [][]any{}
	for answer.Next() {
		values, err := answer.Values()
		check(err)
		row := []any{}
		for _, value := range values {
			if value == nil {
				row = append(row, nil)
			} else {
				row = append(row, fmt.Sprint(value))
			}
		}
		all = append(all, row)
	}
	check(answer.Err())
	return all
}

func tasks(ctx context.Context, p plan, t target) map[string]any {
	done := map[string]any{}
	notices := []string{}
	db, err := pgx.ConnectConfig(ctx, settings(p, t, &notices))
	check(err)
	defer db.Close(ctx)
	var n int
	check(db.QueryRow(ctx, "SELECT 40 + 2", pgx.QueryExecModeSimpleProtocol).Scan(&n))
	done["simple"] = n
	check(db.QueryRow(ctx, "SELECT $1::int + 1", pgx.QueryExecModeExec, 41).Scan(&n))
	done["parameter"] = n
	_, err = db.Prepare(ctx, "twice", "SELECT $1::int * 2")
	check(err)
	prepared := []int{}
	for i := 1; i <= 3; i++ {
		check(db.QueryRow(ctx, "twice", i).Scan(&n))
		prepared = append(prepared, n)
	}
	done["prepared"] = prepared
	done["masked_text"] = rows(ctx, db, 0)
	done["masked_binary"] = rows(ctx, db, 1)

	raw := db.PgConn()
	var out bytes.Buffer
	_, err = raw.CopyTo(ctx, &out, "COPY (SELECT id, ssn, email FROM customers ORDER BY id) TO STDOUT")
	check(err)
	done["copy_out"] = out.String()
	source := make([][]any, 500)
	for i := range source {
		source[i] = []any{i, "go"}
	}
	_, err = db.CopyFrom(ctx, pgx.Identifier{"scratch"}, []string{"id", "txt"}, pgx.CopyFromRows(source))
	check(err)
	tag, err := db.Exec(ctx, "DELETE FROM scratch WHERE txt = $1", "go")
	check(err)
	done["copy_in"] = tag.RowsAffected()

	notices = nil
	_, err = db.Exec(ctx, "CREATE TABLE IF NOT EXISTS scratch (id int)")
	check(err)
	done["notice"] = strings.Join(notices, ";")
	_, err = db.Exec(ctx, "SELECT 1 / 0")
	done["error"] = code(err)
	large, err := db.Query(ctx, "SELECT repeat('x', 500) FROM generate_series(1, 20000)")
	check(err)
	count, size := 0, 0
	for large.Next() {
		count, size = count+1, size+len(large.RawValues()[0])
	}
	check(large.Err())
	done["large"] = []int{count, size}

	_, err = db.Exec(ctx, "LISTEN go")
	check(err)
	_, err = db.Exec(ctx, "NOTIFY go, 'hello'")
	check(err)
	note, err := db.WaitForNotification(ctx)
	check(err)
	done["notified"] = note.Payload

	time.AfterFunc(300*time.Millisecond, func() { raw.CancelRequest(ctx) })
	_, err = db.Exec(ctx, "SELECT pg_sleep(30)")
	done["canceled"] = code(err)
	check(db.QueryRow(ctx, "SELECT 7").Scan(&n))
	done["afterwards"] = n
	return done
}

func attempt(p plan, t target) (line map[string]any) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	line = map[string]any{"target": t.Name}
	defer func() {
		if failure := recover(); failure != nil {
			line["failed"] = fmt.Sprint(failure)
		}
	}()
	line["done"] = tasks(ctx, p, t)
	return line
}

func main() {
	var p plan
	check(json.Unmarshal([]byte(os.Args[1]), &p))
	for _, t := range p.Targets {
		text, err := json.Marshal(attempt(p, t))
		check(err)
		fmt.Println(string(text))
	}
}
