/*
 * doctor.h - is everything that is promised of a project still there, and what does it take?
 *
 * Reads what every fork point, snapshot and bookmark needs, record by record, so it may take a while: called
 * from a request, ended by `stopping`.  Changes nothing.
 */
#ifndef MERE_DOCTOR_H
#define MERE_DOCTOR_H

#include "meta/size.h"

#include <stdatomic.h>

struct sched;

struct doctor_finding {
    const char *branch_id;
    const char *of;   /* branch, snapshot, temporary, bookmark */
    const char *name; /* of that */
    const char *what; /* a sentence */
};

struct doctor_report {
    struct doctor_finding *findings;
    size_t n_findings;
    int64_t n_branches, n_snapshots, n_bookmarks, n_images; /* looked at */
    struct branch *branches; /* those that users see, and beside them what they take */
    struct branch_size *sizes;
    size_t n_shown;
    uint64_t store_total, store_free, data_total, data_free; /* of the two file systems */
};

int doctor_look(struct sched *s, struct arena *a, const char *project_id, const atomic_bool *stopping,
                struct doctor_report *ret, struct err *err) MUST_CHECK;

#endif
