// pgjdbc reads masked columns of every type: tests/gateway/test_masked_types.py.
// Arguments: host, port, user, password, database, then tables. Output: one line of JSON per table and transfer.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.util.Properties;

public class Types {
    static String quoted(String s) {
        StringBuilder b = new StringBuilder("\"");
        for (char c : s.toCharArray()) b.append(c < 32 || c == '"' || c == '\\' || c > 126 ? String.format("\\u%04x", (int) c) : c);
        return b.append('"').toString();
    }

    static void read(Connection db, String table, boolean binary) throws SQLException {
        StringBuilder faults = new StringBuilder(), values = new StringBuilder();
        int read = 0;
        try (PreparedStatement s = db.prepareStatement("SELECT * FROM " + table + " ORDER BY id"); ResultSet r = s.executeQuery()) {
            ResultSetMetaData columns = r.getMetaData();
            while (r.next()) {
                for (int i = 1; i <= columns.getColumnCount(); i++) {
                    String value = null;
                    try {
                        r.getObject(i);
                        value = r.getString(i);
                        if (columns.getColumnType(i) == java.sql.Types.ARRAY && value != null) r.getArray(i).getArray();
                        read++;
                    } catch (Exception e) {
                        faults.append(faults.length() == 0 ? "" : ",").append(quoted(columns.getColumnTypeName(i)));
                    }
                    values.append(values.length() == 0 ? "" : ",").append(value == null ? "null" : quoted(value));
                }
            }
        }
        System.out.println("{\"table\": " + quoted(table) + ", \"binary\": " + binary + ", \"read\": " + read + ", \"faults\": ["
            + faults + "], \"values\": [" + values + "]}");
    }

    public static void main(String[] a) throws Exception {
        for (boolean binary : new boolean[] {false, true}) {
            Properties p = new Properties();
            p.setProperty("user", a[2]);
            p.setProperty("password", a[3]);
            p.setProperty("sslmode", "disable");
            p.setProperty("socketTimeout", "60");
            p.setProperty("prepareThreshold", binary ? "-1" : "0");
            p.setProperty("binaryTransfer", binary ? "true" : "false");
            try (Connection db = DriverManager.getConnection("jdbc:postgresql://" + a[0] + ":" + a[1] + "/" + a[4], p)) {
                for (int i = 5; i < a.length; i++) read(db, a[i], binary);
            }
        }
    }
}
