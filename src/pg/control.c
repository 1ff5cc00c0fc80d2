#include "pg/control.h"

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
    CONTROL_HEAD = 56,
};
#define CONTROL_VERSION_MIN 1300
#define CONTROL_VERSION_MAX 1900

static uint32_t get32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t get64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

int pg_control_read(const char *pgdata, struct pg_control *ret, struct err *err)
{
    auto_arena *a = arena_new(0);
    char *data;
    size_t len;
    if (fs_read(a, arena_printf(a, "%s/global/pg_control", pgdata), 65536, &data, &len, err) < 0)
        return -1;
    if (len < CONTROL_HEAD)
        return err_set(err, ERR_INTERNAL, "the cluster's control file is too short");
    uint32_t version = get32(data + AT_CONTROL_VERSION);
    if (version < CONTROL_VERSION_MIN || version > CONTROL_VERSION_MAX)
        return err_set(err, ERR_INTERNAL,
                       "the cluster's control file has version %" PRIu32 ", which this Mere does not know",
                       version);
    *ret = (struct pg_control){
        .system_id = get64(data + AT_SYSTEM_ID),
        .state = (enum pg_state)get32(data + AT_STATE),
        .checkpoint = get64(data + AT_CHECKPOINT),
        .redo = get64(data + AT_REDO),
        .tli = get32(data + AT_TLI),
    };
    return 0;
}

int pg_history_read(const char *pg_wal, uint32_t tli, uint32_t *ret_parent_tli, uint64_t *ret_switch_lsn,
                    struct err *err)
{
    auto_arena *a = arena_new(0);
    char *data;
    size_t len;
    if (fs_read(a, arena_printf(a, "%s/%08X.history", pg_wal, (unsigned)tli), 1 << 20, &data, &len, err) < 0)
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
    if (fs_read(a, arena_printf(a, "%s/postmaster.pid", pgdata), 4096, &data, &len, &err) < 0)
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
