/*
 * park_question.c - the statement that says what a session holds
 *
 * Every name and operator is given with its schema, and nothing is left to search_path.  Objects of initdb
 * have numbers below 16384; of those above it knows nothing but what it asks for.
 *
 * A function that a user has made may have set anything: a trigger, a view, an operator or a cast may call it
 * where no client names it.  So there must be none.  Those of extensions count too, but of the ones below,
 * which hold nothing in a session that pg_settings does not show, and run no text as SQL (tablefunc does; isn
 * and hll keep settings of their own; postgis was not read).  They must belong to the superuser: an owner of
 * an extension may add what he has made.
 *
 * Without a function of a user's, an expression that is stored may still call the ones of Postgres that leave
 * something behind.  All of these are volatile, so that no index and no partition key can have them.
 */
#include "pg/park.h"

#define TEXTS(...) "ARRAY[" __VA_ARGS__ "]::pg_catalog.text[]"
#define IS         " OPERATOR(pg_catalog.=) "
#define IS_NOT     " OPERATOR(pg_catalog.<>) "
#define ANY_OF(a)  IS "ANY (" a ")"
#define USERS(a)   a ".oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid"
#define CALLS(a)   a "::pg_catalog.text OPERATOR(pg_catalog.~) b.pattern"

#define EXTENSIONS                                                                                           \
    TEXTS("'autoinc','bloom','btree_gin','btree_gist','citext','cube','dict_int','earthdistance',"           \
          "'fuzzystrmatch','hstore','insert_username','intarray','ip4r','lo','ltree','moddatetime',"         \
          "'pg_prewarm','pg_stat_statements','pg_trgm','pgcrypto','pgrowlocks','prefix','seg','tcn',"        \
          "'tsm_system_rows','tsm_system_time','unaccent','uuid-ossp','vector'")

#define REPORTED                                                                                             \
    TEXTS("'application_name','client_encoding','DateStyle','default_transaction_read_only',"                \
          "'in_hot_standby','integer_datetimes','IntervalStyle','is_superuser','scram_iterations',"          \
          "'search_path','server_encoding','server_version','session_authorization',"                        \
          "'standard_conforming_strings','TimeZone'")

/* What a stored expression that calls one of these looks like. */
#define WITH_BAD                                                                                             \
    "b AS MATERIALIZED (SELECT pg_catalog.array_agg(p.oid) AS oids,"                                         \
    " pg_catalog.concat(':(funcid|opfuncid|aggfnoid|winfnoid) (',"                                           \
    " pg_catalog.string_agg(p.oid::pg_catalog.text, '|'::pg_catalog.text), ') ') AS pattern"                 \
    " FROM pg_catalog.pg_proc AS p WHERE p.pronamespace" IS "11::pg_catalog.oid AND"                         \
    " p.proname::pg_catalog.text" ANY_OF(                                                                    \
        TEXTS("'set_config','setseed','query_to_xml','query_to_xmlschema','query_to_xml_and_xmlschema',"     \
              "'cursor_to_xml','cursor_to_xmlschema','ts_stat','ts_rewrite'")) ")"

#define WITH_SETTINGS                                                                                        \
    "g AS MATERIALIZED (SELECT s.name, s.setting, s.source, s.context, s.vartype"                            \
    " FROM pg_catalog.pg_settings AS s)"

#define REASON(code) "SELECT 'N'::pg_catalog.text, '" code "'::pg_catalog.text, NULL, NULL WHERE "
#define AND_ALSO     " UNION ALL "

/* --- reasons
 * ---------------------------------------------------------------------------------------------------------
 */

#define TEMPORARY                                                                                            \
    REASON("temp")                                                                                           \
    "EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.refclassid" IS "2615::pg_catalog.oid"             \
    " AND d.refobjid" IS "pg_catalog.pg_my_temp_schema())"

#define LOCKS                                                                                                \
    REASON("lock")                                                                                           \
    "EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE l.locktype" IS "'advisory'::pg_catalog.text"         \
    " AND l.pid" IS "pg_catalog.pg_backend_pid())"

#define CHANNELS REASON("listen") "EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"

#define CURSORS REASON("hold") "EXISTS (SELECT FROM pg_catalog.pg_cursors AS c WHERE c.is_holdable)"

#define SLOTS                                                                                                \
    REASON("slot")                                                                                           \
    "EXISTS (SELECT FROM pg_catalog.pg_replication_slots AS r WHERE r.temporary"                             \
    " AND r.active_pid" IS "pg_catalog.pg_backend_pid())"

#define FUNCTIONS                                                                                            \
    REASON("function")                                                                                       \
    "EXISTS (SELECT FROM pg_catalog.pg_proc AS p WHERE " USERS(                                              \
        "p") " AND NOT (p.proowner" IS                                                                       \
             "10::pg_catalog.oid AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d"                          \
             " JOIN pg_catalog.pg_extension AS e ON e.oid" IS "d.refobjid"                                   \
             " WHERE d.classid" IS "1255::pg_catalog.oid AND d.objid" IS "p.oid"                             \
             " AND d.refclassid" IS "3079::pg_catalog.oid AND d.deptype" IS "'e'::pg_catalog.\"char\""       \
             " AND e.extname::pg_catalog.text" ANY_OF(EXTENSIONS) ")))"

#define STORED_IN(table, a, columns)                                                                         \
    REASON("stored")                                                                                         \
    "EXISTS (SELECT FROM b, pg_catalog." table " AS " a " WHERE " USERS(a) " AND (" columns "))"

#define STORED                                                                                               \
    STORED_IN("pg_rewrite", "r", CALLS("r.ev_action") " OR " CALLS("r.ev_qual"))                             \
    AND_ALSO STORED_IN("pg_attrdef", "a", CALLS("a.adbin"))                                                  \
        AND_ALSO STORED_IN("pg_constraint", "c", CALLS("c.conbin"))                                          \
            AND_ALSO STORED_IN("pg_policy", "p", CALLS("p.polqual") " OR " CALLS("p.polwithcheck"))          \
                AND_ALSO STORED_IN("pg_trigger", "t", CALLS("t.tgqual"))                                     \
                    AND_ALSO STORED_IN("pg_type", "t", CALLS("t.typdefaultbin"))

#define OPERATORS                                                                                            \
    REASON("operator")                                                                                       \
    "EXISTS (SELECT FROM b, pg_catalog.pg_operator AS o WHERE " USERS(                                       \
        "o") " AND o.oprcode::pg_catalog.oid" ANY_OF("b.oids") ")"

/* Reals are shown rounded; what is of a library that was loaded may not be there in the next server. */
#define SETTINGS                                                                                             \
    REASON("setting")                                                                                        \
    "EXISTS (SELECT FROM g WHERE g.source" IS "'session'::pg_catalog.text"                                   \
    " AND (pg_catalog.strpos(g.name, '.'::pg_catalog.text) OPERATOR(pg_catalog.>) 0"                         \
    " OR g.vartype" IS "'real'::pg_catalog.text"                                                             \
    " OR g.name" ANY_OF(                                                                                     \
        TEXTS("'transaction_isolation','transaction_read_only','transaction_deferrable'")) "))"

/* They come with the next login as well, but perhaps otherwise, and nobody could see it. */
#define DEFAULTS                                                                                             \
    REASON("default")                                                                                        \
    "EXISTS (SELECT FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS u"            \
    " WHERE pg_catalog.strpos(pg_catalog.split_part(u, '='::pg_catalog.text, 1), '.'::pg_catalog.text)"      \
    " OPERATOR(pg_catalog.>) 0"                                                                              \
    " AND (s.setdatabase" IS "0::pg_catalog.oid OR s.setdatabase" IS "(SELECT d.oid"                         \
    " FROM pg_catalog.pg_database AS d WHERE d.datname" IS "pg_catalog.current_database()))"                 \
    " AND (s.setrole" IS "0::pg_catalog.oid OR s.setrole" IS "(SELECT r.oid"                                 \
    " FROM pg_catalog.pg_roles AS r WHERE r.rolname" IS "SESSION_USER)))"

#define OTHERS                                                                                               \
    REASON("timeout")                                                                                        \
    "COALESCE(pg_catalog.current_setting('idle_session_timeout', true), '0')" IS_NOT                         \
    "'0'::pg_catalog.text" AND_ALSO REASON(                                                                  \
        "strings") "pg_catalog.current_setting('standard_conforming_strings')" IS_NOT                        \
                   "'on'::pg_catalog.text" AND_ALSO REASON(                                                  \
                       "encoding") "pg_catalog.getdatabaseencoding()" IS_NOT                                 \
                                   "'UTF8'::pg_catalog.name" AND_ALSO REASON(                                \
                                       "user") "SESSION_USER::pg_catalog.text" IS_NOT "$1"

/* --- what is kept
 * ----------------------------------------------------------------------------------------------------
 */

/* role is shown in no view. */
#define PRINT                                                                                                \
    "SELECT 'F', pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat("               \
    "pg_catalog.current_setting('role'), ' ', pg_catalog.string_agg(pg_catalog.concat(g.name, '=',"          \
    " g.setting), pg_catalog.chr(10) ORDER BY g.name COLLATE pg_catalog.\"C\")), 'UTF8')), 'hex'),"          \
    " NULL, NULL FROM g WHERE g.source" IS_NOT "'default'::pg_catalog.text"                                  \
    " AND g.context" ANY_OF(TEXTS("'user','superuser'"))

#define OWN_SETTINGS                                                                                         \
    "SELECT 'S', g.name, pg_catalog.current_setting(g.name), NULL FROM g"                                    \
    " WHERE g.source" IS "'session'::pg_catalog.text" AND_ALSO                                               \
    "SELECT 'S', 'role', pg_catalog.current_setting('role'), NULL"                                           \
    " WHERE pg_catalog.current_setting('role')" IS_NOT "'none'::pg_catalog.text"

#define TOLD                                                                                                 \
    "SELECT 'R', n, pg_catalog.current_setting(n, true), NULL FROM pg_catalog.unnest(" REPORTED ") AS n"     \
    " WHERE pg_catalog.current_setting(n, true) IS NOT NULL"

#define STATEMENTS                                                                                           \
    "SELECT CASE WHEN s.from_sql THEN 'Q' ELSE 'P' END, s.name, s.statement,"                                \
    " pg_catalog.array_to_string(s.parameter_types::pg_catalog.oid[], ',')"                                  \
    " FROM pg_catalog.pg_prepared_statements AS s"                                                           \
    " WHERE NOT (s.name" ANY_OF(TEXTS("'" PARK_ASKS "','" PARK_ALSO "'")) ")"

const char PARK_QUESTION[] =
    "WITH " WITH_SETTINGS ", " WITH_BAD
    " SELECT q.kind, q.a, q.b, q.c FROM (" TEMPORARY AND_ALSO LOCKS AND_ALSO CHANNELS AND_ALSO CURSORS
        AND_ALSO SLOTS AND_ALSO FUNCTIONS AND_ALSO STORED AND_ALSO OPERATORS AND_ALSO SETTINGS AND_ALSO
            DEFAULTS AND_ALSO OTHERS AND_ALSO PRINT AND_ALSO OWN_SETTINGS AND_ALSO TOLD AND_ALSO STATEMENTS
    ") AS q (kind, a, b, c)"
    " ORDER BY q.kind COLLATE pg_catalog.\"C\", q.a COLLATE pg_catalog.\"C\"";
