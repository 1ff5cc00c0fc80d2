/*
 * template.h - the prepared cluster that every new project is a clone of
 *
 * One image (branch_id NULL) per installed Postgres version, made once by initdb; it holds the default
 * database and its owner, so that creating a project with the default names runs no DDL.
 */
#ifndef MERE_TEMPLATE_H
#define MERE_TEMPLATE_H

#include "branch/env.h"

/* The template of this version is there and ready; made anew when it is not.  Takes a second or two when
 * made. */
int template_ensure(const struct env *env, const struct pg_install *install, struct err *err) MUST_CHECK;

#endif
