#include "pg/control.h"

#include "base/bytes.h"
#include "base/fs.h"
#include "base/text.h"
#include "pg/walseg.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Offsets in ControlFileData (catalog/pg_control.h): the fields before them are fixed-size and have not moved
 * since version 9.5. */
enum {
    AT_SYSTEM_ID = 0,
    AT_CONTROL_VERSION = 8,
    AT_STATE = 16,
    AT_CHECKPOINT = 32,
    AT_REDO = 40,
    AT_TLI = 48,
    AT_MIN_RECOVERY_TLI = 144,
    AT_MAX_CONNECTIONS = 180,
    AT_MAX_WORKER_PROCESSES = 184,
    AT_MAX_WAL_SENDERS = 188,
    AT_MAX_PREPARED_XACTS = 192,
    AT_MAX_LOCKS_PER_XACT = 196,
    CONTROL_HEAD = 200,
};
#define CONTROL_VERSION_MIN 1300
#define CONTROL_VERSION_MAX 1900

/*
 * Where the checksum of all before it stands: the last member of the struct, so it moves with every change.
 * Measured with initdb of 14 to 18.
 */
static const struct {
    uint32_t version;
    size_t crc;
} LAYOUTS[] = {
    { 1300, 288 }, /* 13 to 16 */
    { 1700, 288 },
    { 1800, 292 },
};

/* Postgres writes the file in place and in one go: who reads in between finds it whole at the next try. */
#define CONTROL_TRIES 5

/* A version whose layout is not known here is taken as it is: there is nothing to check it with. */
static bool is_whole(const char *data, size_t len, uint32_t version)
{
    for (size_t i = 0; i < N_ELEMENTS(LAYOUTS); i++)
        if (LAYOUTS[i].version == version)
            return len >= LAYOUTS[i].crc + 4 &&
                   bytes_crc_end(bytes_crc_add(BYTES_CRC_INIT, data, LAYOUTS[i].crc)) ==
                       bytes_get32(data + LAYOUTS[i].crc);
    return true;
}

static int read_control(struct arena *a, const char *path, struct pg_control *ret, struct err *err)
{
    char *data;
    size_t len;
    if (fs_read_nofollow(a, path, 65536, &data, &len, err) < 0)
        return -1;
    if (len < CONTROL_HEAD)
        return err_set(err, ERR_INTERNAL, "the cluster's control file is too short");
    uint32_t version = bytes_get32(data + AT_CONTROL_VERSION);
    if (version < CONTROL_VERSION_MIN || version > CONTROL_VERSION_MAX)
        return err_set(err, ERR_INTERNAL,
                       "the cluster's control file has version %" PRIu32 ", which this Mere does not know",
                       version);
    if (!is_whole(data, len, version))
        return err_set(err, ERR_UNAVAILABLE,
                       "the cluster's control file is being written, or it is damaged; try again");
    *ret = (struct pg_control){
        .system_id = bytes_get64(data + AT_SYSTEM_ID),
        .state = (enum pg_state)bytes_get32(data + AT_STATE),
        .checkpoint = bytes_get64(data + AT_CHECKPOINT),
        .redo = bytes_get64(data + AT_REDO),
        .tli = bytes_get32(data + AT_TLI),
        .min_recovery_tli = bytes_get32(data + AT_MIN_RECOVERY_TLI),
        .needs = { .max_connections = bytes_get32(data + AT_MAX_CONNECTIONS),
                   .max_worker_processes = bytes_get32(data + AT_MAX_WORKER_PROCESSES),
                   .max_wal_senders = bytes_get32(data + AT_MAX_WAL_SENDERS),
                   .max_prepared_transactions = bytes_get32(data + AT_MAX_PREPARED_XACTS),
                   .max_locks_per_transaction = bytes_get32(data + AT_MAX_LOCKS_PER_XACT) },
    };
    return 0;
}

static void raise_one(uint32_t *v, uint32_t more)
{
    *v = more > *v ? more : *v;
}

void pg_needs_raise(struct pg_needs *needs, const struct pg_needs *more)
{
    raise_one(&needs->max_connections, more->max_connections);
    raise_one(&needs->max_worker_processes, more->max_worker_processes);
    raise_one(&needs->max_wal_senders, more->max_wal_senders);
    raise_one(&needs->max_prepared_transactions, more->max_prepared_transactions);
    raise_one(&needs->max_locks_per_transaction, more->max_locks_per_transaction);
}

int pg_control_read(const char *pgdata, struct pg_control *ret, struct err *err)
{
    auto_arena *a = arena_new(0);
    const char *path = arena_printf(a, "%s/global/pg_control", pgdata);
    for (int i = 1; i < CONTROL_TRIES; i++) {
        struct err unread = ERR_INIT;
        if (read_control(a, path, ret, &unread) == 0)
            return 0;
        if (unread.code != ERR_UNAVAILABLE) {
            *err = unread;
            return -1;
        }
    }
    return read_control(a, path, ret, err);
}

int pg_history_read(const char *pg_wal, uint32_t tli, uint32_t *ret_parent_tli, uint64_t *ret_switch_lsn,
                    struct err *err)
{
    auto_arena *a = arena_new(0);
    char *data;
    size_t len;
    if (fs_read_nofollow(a, arena_printf(a, "%s/%08X.history", pg_wal, (unsigned)tli), 1 << 20, &data, &len,
                         err) < 0)
        return -1;
    bool found = false;
    char *save = NULL;
    for (char *line = strtok_r(data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        unsigned parent, hi, lo;
        if (line[0] == '#' || sscanf(line, "%u\t%X/%X", &parent, &hi, &lo) != 3)
            continue;
        *ret_parent_tli = parent;
        *ret_switch_lsn = (uint64_t)hi << 32 | lo;
        found = true;
    }
    if (!found)
        return err_set(err, ERR_INTERNAL, "timeline history %08X.history names no switch point",
                       (unsigned)tli);
    return 0;
}

enum pg_status pg_status_read(const char *pgdata, int64_t *ret_pid)
{
    static const struct {
        const char *word;
        enum pg_status status;
    } WORDS[] = {
        { "ready", PG_STATUS_READY },
        { "standby", PG_STATUS_STANDBY },
        { "starting", PG_STATUS_STARTING },
        { "stopping", PG_STATUS_STOPPING },
    };
    auto_arena *a = arena_new(0);
    struct err err = ERR_INIT;
    char *data;
    size_t len;
    *ret_pid = 0;
    if (fs_read_nofollow(a, arena_printf(a, "%s/postmaster.pid", pgdata), 4096, &data, &len, &err) < 0)
        return PG_STATUS_NONE;
    char *save = NULL;
    int line_no = 0;
    for (char *line = strsep(&data, "\n"); line; line = strsep(&data, "\n")) {
        line_no++;
        if (line_no == 1)
            *ret_pid = strtoll(line, &save, 10);
        if (line_no != 8)
            continue;
        for (size_t i = 0; i < N_ELEMENTS(WORDS); i++)
            if (text_starts_with(line, WORDS[i].word))
                return WORDS[i].status;
    }
    return PG_STATUS_NONE;
}
