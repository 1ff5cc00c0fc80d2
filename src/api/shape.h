/*
 * shape.h - what the files of spec share: refusals, small checks, pointers into the body
 */
#ifndef MERE_SHAPE_H
#define MERE_SHAPE_H

#include "api/http.h"
#include "base/fields.h"
#include "scheduler/intent.h"

#define SHAPE_JSON_MAX 65536 /* of a nested object that is kept as text */
#define SHAPE_NAME_MAX 1024  /* the intent has the exact limits, and better words for them */

/* A member of a struct inside the struct, under the name that clients use. */
#define SHAPE_FIELD(strct, json_name, member, ftype, fflags, fmax)                                           \
    {                                                                                                        \
        .name = json_name, .type = ftype, .flags = fflags, .offset = offsetof(struct strct, member),         \
        .max = fmax                                                                                          \
    }

/* A field that is known, and refused when it asks for something. */
enum refuse_when { REFUSE_TRUE, REFUSE_FALSE, REFUSE_ANY, REFUSE_NOT_EMPTY, REFUSE_NOT_ZERO };

struct refusal {
    const char *name;
    enum refuse_when when;
    const char *why;
};

/* ERR_NOT_SUPPORTED with a pointer for the first member of obj that the table refuses. */
int shape_refuse(const struct refusal *table, size_t n, json_t *obj, const char *prefix,
                 struct err *err) MUST_CHECK;
#define SHAPE_REFUSE(table, obj, prefix, err) shape_refuse(table, N_ELEMENTS(table), obj, prefix, err)

/* "name what" at prefix/name; ERR_INVALID.  Returns -1. */
int shape_bad(struct err *err, const char *prefix, const char *name, const char *what);
/* Was the member there?  bits as fields_from_json() gives them. */
bool shape_seen(uint64_t bits, const struct field *table, size_t n, const char *name);
/* As text, in the arena. */
const char *shape_text(struct arena *a, json_t *v);
bool shape_are_texts(json_t *v); /* an array of strings */
/* An object of texts, as text; absent leaves *ret alone. */
int shape_labels(struct arena *a, json_t *obj, const char *prefix, const char *name, const char **ret,
                 struct err *err) MUST_CHECK;
/* What a body sets, flat, as an intent's `given`: the members of obj but `but` (NULL = all), one of them
 * (NULL = none) under another name; in the arena. */
const char *shape_given(struct arena *a, json_t *obj, const char *but, const char *from, const char *to);
/* null is "not set" in a body that says all there is to be: those of the table's members go. */
void shape_drop_nulls(const struct field *table, size_t n, json_t *body);
#define SHAPE_DROP_NULLS(table, body) shape_drop_nulls(table, N_ELEMENTS(table), body)
/* The name in a flat body, where it has one, is that of the path.  ERR_INVALID. */
int shape_same_name(json_t *body, const char *name, struct err *err) MUST_CHECK;
/* There is one region, one organisation and one provisioner; naming them is fine.  NULL = not named. */
int shape_place(struct http_req *req, const char *org_id, const char *region_id, const char *provisioner,
                const char *prefix, struct err *err) MUST_CHECK;
/* The shape of "preload_libraries" of projects and endpoints; obj may be NULL. */
int shape_preload(struct arena *a, json_t *obj, const char *prefix, struct err *err) MUST_CHECK;

/* spec_endpoint.c, for others: an endpoint in the body of a branch, and the defaults of a project. */
int spec_endpoint_option(struct http_req *req, json_t *obj, const char *prefix, struct endpoint_spec *ret,
                         struct err *err) MUST_CHECK;
int spec_endpoint_defaults(struct http_req *req, json_t *obj, const char *prefix, struct endpoint_spec *ret,
                           struct err *err) MUST_CHECK;

#endif
