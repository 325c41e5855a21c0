// pgjdbc against the gateway: the tasks of tests/gateway/test_matrix.py, once per target.
// Arguments: host, port, user, password, then targets as NAME or NAME+tls. Output: one line of JSON per target.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.postgresql.PGConnection;

public class Client {
    static final String MASKED = "SELECT id, name, ssn, email, salary, phone FROM customers ORDER BY id";
    static String host, port, user, password;

    static Connection open(String database, boolean tls, String... more) throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", user);
        p.setProperty("password", password);
        p.setProperty("sslmode", tls ? "require" : "disable");
        p.setProperty("loginTimeout", "20");
        p.setProperty("socketTimeout", "30");
        for (int i = 0; i < more.length; i += 2) p.setProperty(more[i], more[i + 1]);
        return DriverManager.getConnection("jdbc:postgresql://" + host + ":" + port + "/" + database, p);
    }

    static List<Object> masked(Connection db) throws SQLException {
        List<Object> rows = new ArrayList<>();
        try (PreparedStatement s = db.prepareStatement(MASKED); ResultSet r = s.executeQuery()) {
            while (r.next()) {
                List<Object> row = new ArrayList<>();
                for (int i = 1; i <= 6; i++) row.add(r.getString(i));
                rows.add(row);
            }
        }
        return rows;
    }

    static int number(Connection db, String sql) throws SQLException {
        try (Statement s = db.createStatement(); ResultSet r = s.executeQuery(sql)) {
            r.next();
            return r.getInt(1);
        }
    }

    static String failure(Connection db, String sql) {
        try (Statement s = db.createStatement()) {
            s.execute(sql);
            return "";
        } catch (SQLException e) {
            return e.getSQLState();
        }
    }

    static Map<String, Object> tasks(String database, boolean tls) throws Exception {
        Map<String, Object> done = new LinkedHashMap<>();
        try (Connection db = open(database, tls, "preferQueryMode", "simple")) {
            done.put("simple", number(db, "SELECT 40 + 2"));
        }
        // From its first execution on, a statement is a named one whose results are binary where they can be.
        try (Connection db = open(database, tls, "prepareThreshold", "-1")) {
            done.put("masked_binary", masked(db));
        }
        try (Connection db = open(database, tls, "prepareThreshold", "2", "binaryTransfer", "false")) {
            List<Object> prepared = new ArrayList<>();
            try (PreparedStatement s = db.prepareStatement("SELECT ?::int * 2")) {
                for (int i = 1; i <= 3; i++) {
                    s.setInt(1, i);
                    try (ResultSet r = s.executeQuery()) {
                        r.next();
                        prepared.add(r.getInt(1));
                    }
                }
            }
            done.put("prepared", prepared);
            try (PreparedStatement s = db.prepareStatement("SELECT ?::int + 1")) {
                s.setInt(1, 41);
                try (ResultSet r = s.executeQuery()) {
                    r.next();
                    done.put("parameter", r.getInt(1));
                }
            }
            done.put("masked_text", masked(db));

            PGConnection pg = db.unwrap(PGConnection.class);
            StringWriter out = new StringWriter();
            pg.getCopyAPI().copyOut("COPY (SELECT id, ssn, email FROM customers ORDER BY id) TO STDOUT", out);
            done.put("copy_out", out.toString());
            StringBuilder lines = new StringBuilder();
            for (int i = 0; i < 500; i++) lines.append(i).append("\tjava\n");
            pg.getCopyAPI().copyIn("COPY scratch FROM STDIN", new StringReader(lines.toString()));
            try (Statement s = db.createStatement()) {
                done.put("copy_in", s.executeUpdate("DELETE FROM scratch WHERE txt = 'java'"));
                s.execute("CREATE TABLE IF NOT EXISTS scratch (id int)");
                done.put("notice", s.getWarnings().getMessage());
            }
            done.put("error", failure(db, "SELECT 1 / 0"));
            try (Statement s = db.createStatement();
                    ResultSet r = s.executeQuery("SELECT repeat('x', 500) FROM generate_series(1, 20000)")) {
                int rows = 0, size = 0;
                for (; r.next(); rows++) size += r.getString(1).length();
                done.put("large", List.of(rows, size));
            }
            try (Statement s = db.createStatement()) {
                s.execute("LISTEN java");
                s.execute("NOTIFY java, 'hello'");
                done.put("notified", pg.getNotifications(10_000)[0].getParameter());
            }
            try (Statement s = db.createStatement()) {
                s.setQueryTimeout(1);
                s.execute("SELECT pg_sleep(30)");
            } catch (SQLException e) {
                done.put("canceled", e.getSQLState());
            }
            done.put("afterwards", number(db, "SELECT 7"));
        }
        return done;
    }

    static String json(Object value) {
        if (value == null) return "null";
        if (value instanceof Number) return value.toString();
        if (value instanceof List<?> list) return "[" + String.join(",", list.stream().map(Client::json).toList()) + "]";
        if (value instanceof Map<?, ?> map) {
            List<String> parts = new ArrayList<>();
            map.forEach((k, v) -> parts.add(json(k) + ":" + json(v)));
            return "{" + String.join(",", parts) + "}";
        }
        StringBuilder out = new StringBuilder("\"");
        for (char c : value.toString().toCharArray()) {
            if (c == '"' || c == '\\' || c < 32 || c > 126) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }

    public static void main(String[] arguments) {
        host = arguments[0];
        port = arguments[1];
        user = arguments[2];
        password = arguments[3];
        for (int i = 4; i < arguments.length; i++) {
            boolean tls = arguments[i].endsWith("+tls");
            String name = tls ? arguments[i].substring(0, arguments[i].length() - 4) : arguments[i];
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("target", name);
            try {
                line.put("done", tasks(name, tls));
            } catch (Throwable e) {
                line.put("failed", e + " at " + e.getStackTrace()[0]);
            }
            System.out.println(json(line));
        }
    }
}
