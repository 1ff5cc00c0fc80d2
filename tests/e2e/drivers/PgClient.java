/*
 * PgClient.java - pgjdbc, told what to do over stdin and stdout (harness/drivers.py)
 *
 * One line a request, words separated by blanks, each percent-encoded: OPERATION SLOT ARGUMENT...  The answer is one line: "ok"
 * and words, or "error", the SQLSTATE and the text.  A row is one word, its columns separated by U+001F; U+0000 is NULL.
 */
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;

public class PgClient {
    private static final Map<String, Connection> SLOTS = new HashMap<>();
    private static final Map<String, PreparedStatement> NAMED = new HashMap<>();

    private static void open(String slot, List<String> words) throws SQLException {
        Map<String, String> given = new HashMap<>();
        for (String word : words) {
            given.put(word.substring(0, word.indexOf('=')), word.substring(word.indexOf('=') + 1));
        }
        Properties p = new Properties();
        p.setProperty("user", given.get("user"));
        p.setProperty("password", given.get("password"));
        p.setProperty("sslmode", given.get("tls"));
        p.setProperty("gssEncMode", "disable");
        p.setProperty("stringtype", "unspecified");
        p.setProperty("prepareThreshold", given.getOrDefault("named", "1"));
        for (String name : Arrays.asList("options", "replication", "preferQueryMode")) {
            if (given.containsKey(name)) {
                p.setProperty(name, given.get(name));
            }
        }
        if (given.containsKey("replication")) {
            p.setProperty("assumeMinServerVersion", "9.4"); // before which it would not ask
        }
        if (given.containsKey("ca")) {
            p.setProperty("sslrootcert", given.get("ca"));
        }
        String database = URLEncoder.encode(given.get("database"), StandardCharsets.UTF_8);
        SLOTS.put(slot, DriverManager.getConnection("jdbc:postgresql://" + given.get("host") + ":" + given.get("port") + "/" + database, p));
    }

    private static List<String> rows(ResultSet r) throws SQLException {
        List<String> found = new ArrayList<>();
        int n = r.getMetaData().getColumnCount();
        while (r.next()) {
            StringBuilder row = new StringBuilder();
            for (int i = 1; i <= n; i++) {
                String value = r.getString(i);
                row.append(i > 1 ? "\u001f" : "").append(value == null ? "\0" : value);
            }
            found.add(row.toString());
        }
        return found;
    }

    private static List<String> result(Statement s, boolean isRows) throws SQLException {
        if (!isRows) {
            return new ArrayList<>();
        }
        try (ResultSet r = s.getResultSet()) {
            return rows(r);
        }
    }

    /* Without parameters.  The protocol is the simple one only where the connection was opened so. */
    private static List<String> simple(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            return result(s, s.execute(sql));
        }
    }

    private static PreparedStatement prepare(Connection c, String sql) throws SQLException {
        return c.prepareStatement(sql.replaceAll("\\$\\d", "?"));
    }

    private static List<String> ask(Connection c, String sql, List<String> values) throws SQLException {
        try (PreparedStatement s = prepare(c, sql)) {
            s.unwrap(PGStatement.class).setPrepareThreshold(0);
            for (int i = 0; i < values.size(); i++) {
                s.setString(i + 1, values.get(i));
            }
            return result(s, s.execute());
        }
    }

    private static List<String> named(String slot, String sql, int n) throws SQLException {
        PreparedStatement s = NAMED.get(slot + sql);
        if (s == null) {
            s = prepare(SLOTS.get(slot), sql);
            NAMED.put(slot + sql, s);
        }
        List<String> found = new ArrayList<>();
        for (int i = 1; i <= n; i++) {
            s.setString(1, Integer.toString(i));
            found.addAll(result(s, s.execute()));
        }
        return found;
    }

    private static List<String> batch(Connection c, String sql, int n) throws SQLException {
        try (PreparedStatement s = prepare(c, sql)) {
            for (int i = 1; i <= n; i++) {
                s.setString(1, Integer.toString(i));
                s.addBatch();
            }
            return Arrays.asList(Integer.toString(Arrays.stream(s.executeBatch()).sum()));
        }
    }

    private static List<String> walk(Connection c, String sql, int size) throws SQLException {
        c.setAutoCommit(false);
        try (Statement s = c.createStatement()) {
            s.setFetchSize(size);
            long count = 0;
            String last = "";
            try (ResultSet r = s.executeQuery(sql)) {
                for (; r.next(); count++) {
                    last = r.getString(1);
                }
            }
            return Arrays.asList(Long.toString(count), last);
        } finally {
            c.commit();
            c.setAutoCommit(true);
        }
    }

    private static List<String> cancelled(Connection c, String sql) throws Exception {
        try (Statement s = c.createStatement()) {
            Thread other = new Thread(() -> {
                try {
                    Thread.sleep(300);
                    s.cancel();
                } catch (Exception e) {
                    e.printStackTrace();
                }
            });
            other.start();
            try {
                s.execute(sql);
                return Arrays.asList("");
            } catch (SQLException e) {
                return Arrays.asList(e.getSQLState());
            } finally {
                other.join();
            }
        }
    }

    private static List<String> heard(Connection c, int ms) throws SQLException {
        List<String> found = new ArrayList<>();
        PGNotification[] all = c.unwrap(PGConnection.class).getNotifications(ms);
        for (PGNotification n : all == null ? new PGNotification[0] : all) {
            found.add(n.getName() + "=" + n.getParameter());
        }
        return found;
    }

    private static List<String> obey(String what, String slot, List<String> args) throws Exception {
        Connection c = SLOTS.get(slot);
        switch (what) {
        case "open":
            open(slot, args);
            return new ArrayList<>();
        case "simple":
            return simple(c, args.get(0));
        case "ask":
            return ask(c, args.get(0), args.subList(1, args.size()));
        case "named":
            return named(slot, args.get(0), Integer.parseInt(args.get(1)));
        case "batch":
            return batch(c, args.get(0), Integer.parseInt(args.get(1)));
        case "walk":
            return walk(c, args.get(0), Integer.parseInt(args.get(1)));
        case "copyin":
            c.unwrap(PGConnection.class).getCopyAPI().copyIn(args.get(0), new StringReader(args.get(1)));
            return new ArrayList<>();
        case "copyout":
            StringWriter out = new StringWriter();
            c.unwrap(PGConnection.class).getCopyAPI().copyOut(args.get(0), out);
            return Arrays.asList(out.toString());
        case "cancelled":
            return cancelled(c, args.get(0));
        case "heard":
            return heard(c, Integer.parseInt(args.get(0)));
        case "close":
            NAMED.keySet().removeIf(key -> key.startsWith(slot));
            SLOTS.remove(slot).close();
            return new ArrayList<>();
        default:
            throw new IllegalArgumentException(what);
        }
    }

    private static String word(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20");
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            List<String> words = new ArrayList<>();
            for (String w : line.split(" ")) {
                words.add(URLDecoder.decode(w.replace("+", "%2B"), StandardCharsets.UTF_8));
            }
            StringBuilder answer = new StringBuilder();
            try {
                answer.append("ok");
                for (String w : obey(words.get(0), words.get(1), words.subList(2, words.size()))) {
                    answer.append(' ').append(word(w));
                }
            } catch (Exception e) {
                String state = e instanceof SQLException ? ((SQLException) e).getSQLState() : null;
                answer = new StringBuilder("error " + word(state == null ? "-" : state) + " " + word(e.toString()));
            }
            out.println(answer);
        }
    }
}
