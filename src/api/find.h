/*
 * find.h - the rows that the path of a request names
 */
#ifndef MERE_FIND_H
#define MERE_FIND_H

#include "api/http.h"
#include "meta/branch.h"
#include "meta/project.h"

/* {project_id}; ERR_NOT_FOUND when there is none or it is being deleted. */
int find_project(struct http_req *req, struct dbc *c, struct project *ret, struct err *err) MUST_CHECK;
/* {branch_id}, an id or a name, of {project_id}. */
int find_branch(struct http_req *req, struct dbc *c, struct branch *ret, struct err *err) MUST_CHECK;

#endif
