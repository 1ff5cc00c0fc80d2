/*
 * id.h - identifiers in the shapes that Neon's clients expect
 *
 * All are random (getrandom), made by us, and safe in paths and SQL identifiers.
 */
#ifndef MERE_ID_H
#define MERE_ID_H

#include "base/arena.h"

#define ID_MAX 60

const char *id_project(struct arena *a);  /* old-violet-32930710 */
const char *id_branch(struct arena *a);   /* br-noisy-breeze-a5e59rrb */
const char *id_endpoint(struct arena *a); /* ep-misty-sea-a5833nbi */
const char *id_snapshot(struct arena *a); /* snap-quiet-sea-a5833nbi */
const char *id_image(struct arena *a);    /* im-<16 hex> */
const char *id_uuid(struct arena *a);     /* operations: version 4 */
const char *id_password(struct arena *a); /* npg_ + 12 alphanumerics */
const char *id_token(struct arena *a);    /* napi_ + 64 lower-case alphanumerics */

bool id_looks_like_branch(const char *s);   /* ^br-[a-z0-9]+-[a-z0-9]+-[a-z0-9]+$ */
bool id_looks_like_endpoint(const char *s); /* ^ep-[a-z0-9]+-[a-z0-9]+-[a-z0-9]+$ */
bool id_is_valid(const char *s);            /* ^[a-z0-9-]{1,60}$ */

#endif
