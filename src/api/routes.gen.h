/* Made by tools/gen_routes.py from openapi.yaml; do not edit. */
#ifndef MERE_ROUTES_GEN_H
#define MERE_ROUTES_GEN_H

#include "api/router.h"

int api_apikey_create(struct http_req *req, struct http_res *res, struct err *err);
int api_apikey_list(struct http_req *req, struct http_res *res, struct err *err);
int api_apikey_revoke(struct http_req *req, struct http_res *res, struct err *err);
int api_auth_get(struct http_req *req, struct http_res *res, struct err *err);
int api_bookmark_delete(struct http_req *req, struct http_res *res, struct err *err);
int api_bookmark_get(struct http_req *req, struct http_res *res, struct err *err);
int api_bookmark_list(struct http_req *req, struct http_res *res, struct err *err);
int api_bookmark_put(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_compare_schema(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_connection(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_count(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_create(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_delete(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_delete_labelled(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_finalize_restore(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_get(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_list(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_lsn(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_put(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_recover(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_reset_to_parent(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_restore(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_schema(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_set_default(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_tfstate(struct http_req *req, struct http_res *res, struct err *err);
int api_branch_update(struct http_req *req, struct http_res *res, struct err *err);
int api_consumption_branches_v2(struct http_req *req, struct http_res *res, struct err *err);
int api_consumption_projects(struct http_req *req, struct http_res *res, struct err *err);
int api_consumption_projects_v2(struct http_req *req, struct http_res *res, struct err *err);
int api_database_create(struct http_req *req, struct http_res *res, struct err *err);
int api_database_delete(struct http_req *req, struct http_res *res, struct err *err);
int api_database_get(struct http_req *req, struct http_res *res, struct err *err);
int api_database_list(struct http_req *req, struct http_res *res, struct err *err);
int api_database_put(struct http_req *req, struct http_res *res, struct err *err);
int api_database_update(struct http_req *req, struct http_res *res, struct err *err);
int api_docs_llms(struct http_req *req, struct http_res *res, struct err *err);
int api_docs_openapi(struct http_req *req, struct http_res *res, struct err *err);
int api_docs_page(struct http_req *req, struct http_res *res, struct err *err);
int api_endpoint_create(struct http_req *req, struct http_res *res, struct err *err);
int api_endpoint_delete(struct http_req *req, struct http_res *res, struct err *err);
int api_endpoint_get(struct http_req *req, struct http_res *res, struct err *err);
int api_endpoint_list(struct http_req *req, struct http_res *res, struct err *err);
int api_endpoint_list_of_branch(struct http_req *req, struct http_res *res, struct err *err);
int api_endpoint_put(struct http_req *req, struct http_res *res, struct err *err);
int api_endpoint_restart(struct http_req *req, struct http_res *res, struct err *err);
int api_endpoint_start(struct http_req *req, struct http_res *res, struct err *err);
int api_endpoint_suspend(struct http_req *req, struct http_res *res, struct err *err);
int api_endpoint_update(struct http_req *req, struct http_res *res, struct err *err);
int api_extension_delete(struct http_req *req, struct http_res *res, struct err *err);
int api_extension_get(struct http_req *req, struct http_res *res, struct err *err);
int api_extension_list(struct http_req *req, struct http_res *res, struct err *err);
int api_extension_put(struct http_req *req, struct http_res *res, struct err *err);
int api_health_check(struct http_req *req, struct http_res *res, struct err *err);
int api_health_live(struct http_req *req, struct http_res *res, struct err *err);
int api_health_ready(struct http_req *req, struct http_res *res, struct err *err);
int api_operation_get(struct http_req *req, struct http_res *res, struct err *err);
int api_operation_list(struct http_req *req, struct http_res *res, struct err *err);
int api_organization_get(struct http_req *req, struct http_res *res, struct err *err);
int api_permission_grant(struct http_req *req, struct http_res *res, struct err *err);
int api_permission_list(struct http_req *req, struct http_res *res, struct err *err);
int api_permission_revoke(struct http_req *req, struct http_res *res, struct err *err);
int api_problem_get(struct http_req *req, struct http_res *res, struct err *err);
int api_project_connection_uri(struct http_req *req, struct http_res *res, struct err *err);
int api_project_create(struct http_req *req, struct http_res *res, struct err *err);
int api_project_delete(struct http_req *req, struct http_res *res, struct err *err);
int api_project_doctor(struct http_req *req, struct http_res *res, struct err *err);
int api_project_get(struct http_req *req, struct http_res *res, struct err *err);
int api_project_limits(struct http_req *req, struct http_res *res, struct err *err);
int api_project_list(struct http_req *req, struct http_res *res, struct err *err);
int api_project_list_shared(struct http_req *req, struct http_res *res, struct err *err);
int api_project_preload_libraries(struct http_req *req, struct http_res *res, struct err *err);
int api_project_recover(struct http_req *req, struct http_res *res, struct err *err);
int api_project_update(struct http_req *req, struct http_res *res, struct err *err);
int api_region_list(struct http_req *req, struct http_res *res, struct err *err);
int api_role_create(struct http_req *req, struct http_res *res, struct err *err);
int api_role_delete(struct http_req *req, struct http_res *res, struct err *err);
int api_role_get(struct http_req *req, struct http_res *res, struct err *err);
int api_role_list(struct http_req *req, struct http_res *res, struct err *err);
int api_role_put(struct http_req *req, struct http_res *res, struct err *err);
int api_role_reset_password(struct http_req *req, struct http_res *res, struct err *err);
int api_role_reveal_password(struct http_req *req, struct http_res *res, struct err *err);
int api_schedule_get(struct http_req *req, struct http_res *res, struct err *err);
int api_schedule_set(struct http_req *req, struct http_res *res, struct err *err);
int api_snapshot_create(struct http_req *req, struct http_res *res, struct err *err);
int api_snapshot_delete(struct http_req *req, struct http_res *res, struct err *err);
int api_snapshot_list(struct http_req *req, struct http_res *res, struct err *err);
int api_snapshot_restore(struct http_req *req, struct http_res *res, struct err *err);
int api_snapshot_update(struct http_req *req, struct http_res *res, struct err *err);
int api_user_me(struct http_req *req, struct http_res *res, struct err *err);
int api_user_organizations(struct http_req *req, struct http_res *res, struct err *err);

/* For router.c alone. */
#ifdef ROUTES_TABLE
static const struct route ROUTES[] = {
    { "GET", "/api/v2/api_keys", api_apikey_list, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/api_keys", api_apikey_create, ROUTE_KEY, true, 1048576 },
    { "DELETE", "/api/v2/api_keys/{key_id}", api_apikey_revoke, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/auth", api_auth_get, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/consumption_history/projects", api_consumption_projects, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/consumption_history/v2/branches", api_consumption_branches_v2, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/consumption_history/v2/projects", api_consumption_projects_v2, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/organizations/{org_id}", api_organization_get, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects", api_project_list, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects", api_project_create, ROUTE_KEY, true, 1048576 },
    { "GET", "/api/v2/projects/shared", api_project_list_shared, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}", api_project_get, ROUTE_KEY, false, 4096 },
    { "PATCH", "/api/v2/projects/{project_id}", api_project_update, ROUTE_KEY, true, 1048576 },
    { "DELETE", "/api/v2/projects/{project_id}", api_project_delete, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/available_preload_libraries", api_project_preload_libraries, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches", api_branch_list, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/branches", api_branch_create, ROUTE_KEY, true, 1048576 },
    { "GET", "/api/v2/projects/{project_id}/branches/count", api_branch_count, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}", api_branch_get, ROUTE_KEY, false, 4096 },
    { "PUT", "/api/v2/projects/{project_id}/branches/{branch_id}", api_branch_put, ROUTE_KEY, true, 1048576 },
    { "PATCH", "/api/v2/projects/{project_id}/branches/{branch_id}", api_branch_update, ROUTE_KEY, true, 1048576 },
    { "DELETE", "/api/v2/projects/{project_id}/branches/{branch_id}", api_branch_delete, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/backup_schedule", api_schedule_get, ROUTE_KEY, false, 4096 },
    { "PUT", "/api/v2/projects/{project_id}/branches/{branch_id}/backup_schedule", api_schedule_set, ROUTE_KEY, true, 1048576 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/bookmarks", api_bookmark_list, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/bookmarks/{bookmark_name}", api_bookmark_get, ROUTE_KEY, false, 4096 },
    { "PUT", "/api/v2/projects/{project_id}/branches/{branch_id}/bookmarks/{bookmark_name}", api_bookmark_put, ROUTE_KEY, true, 1048576 },
    { "DELETE", "/api/v2/projects/{project_id}/branches/{branch_id}/bookmarks/{bookmark_name}", api_bookmark_delete, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/compare_schema", api_branch_compare_schema, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/connection", api_branch_connection, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/databases", api_database_list, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/branches/{branch_id}/databases", api_database_create, ROUTE_KEY, true, 1048576 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/databases/{database_name}", api_database_get, ROUTE_KEY, false, 4096 },
    { "PUT", "/api/v2/projects/{project_id}/branches/{branch_id}/databases/{database_name}", api_database_put, ROUTE_KEY, true, 1048576 },
    { "PATCH", "/api/v2/projects/{project_id}/branches/{branch_id}/databases/{database_name}", api_database_update, ROUTE_KEY, true, 1048576 },
    { "DELETE", "/api/v2/projects/{project_id}/branches/{branch_id}/databases/{database_name}", api_database_delete, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/databases/{database_name}/extensions", api_extension_list, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/databases/{database_name}/extensions/{extension_name}", api_extension_get, ROUTE_KEY, false, 4096 },
    { "PUT", "/api/v2/projects/{project_id}/branches/{branch_id}/databases/{database_name}/extensions/{extension_name}", api_extension_put, ROUTE_KEY, true, 1048576 },
    { "DELETE", "/api/v2/projects/{project_id}/branches/{branch_id}/databases/{database_name}/extensions/{extension_name}", api_extension_delete, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/endpoints", api_endpoint_list_of_branch, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/branches/{branch_id}/finalize_restore", api_branch_finalize_restore, ROUTE_KEY, true, 1048576 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/lsn", api_branch_lsn, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/branches/{branch_id}/recover", api_branch_recover, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/branches/{branch_id}/reset_to_parent", api_branch_reset_to_parent, ROUTE_KEY, true, 1048576 },
    { "POST", "/api/v2/projects/{project_id}/branches/{branch_id}/restore", api_branch_restore, ROUTE_KEY, true, 1048576 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/roles", api_role_list, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/branches/{branch_id}/roles", api_role_create, ROUTE_KEY, true, 1048576 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/roles/{role_name}", api_role_get, ROUTE_KEY, false, 4096 },
    { "PUT", "/api/v2/projects/{project_id}/branches/{branch_id}/roles/{role_name}", api_role_put, ROUTE_KEY, true, 1048576 },
    { "DELETE", "/api/v2/projects/{project_id}/branches/{branch_id}/roles/{role_name}", api_role_delete, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/branches/{branch_id}/roles/{role_name}/reset_password", api_role_reset_password, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/roles/{role_name}/reveal_password", api_role_reveal_password, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/schema", api_branch_schema, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/branches/{branch_id}/set_as_default", api_branch_set_default, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/branches/{branch_id}/snapshot", api_snapshot_create, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/branches/{branch_id}/tfstate", api_branch_tfstate, ROUTE_BASIC, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/branches:delete", api_branch_delete_labelled, ROUTE_KEY, true, 1048576 },
    { "GET", "/api/v2/projects/{project_id}/connection_uri", api_project_connection_uri, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/doctor", api_project_doctor, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/endpoints", api_endpoint_list, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/endpoints", api_endpoint_create, ROUTE_KEY, true, 1048576 },
    { "GET", "/api/v2/projects/{project_id}/endpoints/{endpoint_id}", api_endpoint_get, ROUTE_KEY, false, 4096 },
    { "PUT", "/api/v2/projects/{project_id}/endpoints/{endpoint_id}", api_endpoint_put, ROUTE_KEY, true, 1048576 },
    { "PATCH", "/api/v2/projects/{project_id}/endpoints/{endpoint_id}", api_endpoint_update, ROUTE_KEY, true, 1048576 },
    { "DELETE", "/api/v2/projects/{project_id}/endpoints/{endpoint_id}", api_endpoint_delete, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/endpoints/{endpoint_id}/restart", api_endpoint_restart, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/endpoints/{endpoint_id}/start", api_endpoint_start, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/endpoints/{endpoint_id}/suspend", api_endpoint_suspend, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/limits", api_project_limits, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/operations", api_operation_list, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/operations/{operation_id}", api_operation_get, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/permissions", api_permission_list, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/permissions", api_permission_grant, ROUTE_KEY, true, 1048576 },
    { "DELETE", "/api/v2/projects/{project_id}/permissions/{permission_id}", api_permission_revoke, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/recover", api_project_recover, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/projects/{project_id}/snapshots", api_snapshot_list, ROUTE_KEY, false, 4096 },
    { "PATCH", "/api/v2/projects/{project_id}/snapshots/{snapshot_id}", api_snapshot_update, ROUTE_KEY, true, 1048576 },
    { "DELETE", "/api/v2/projects/{project_id}/snapshots/{snapshot_id}", api_snapshot_delete, ROUTE_KEY, false, 4096 },
    { "POST", "/api/v2/projects/{project_id}/snapshots/{snapshot_id}/restore", api_snapshot_restore, ROUTE_KEY, true, 1048576 },
    { "GET", "/api/v2/regions", api_region_list, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/users/me", api_user_me, ROUTE_KEY, false, 4096 },
    { "GET", "/api/v2/users/me/organizations", api_user_organizations, ROUTE_KEY, false, 4096 },
    { "GET", "/docs", api_docs_page, ROUTE_OPEN, false, 4096 },
    { "GET", "/healthz", api_health_check, ROUTE_OPEN, false, 4096 },
    { "GET", "/livez", api_health_live, ROUTE_OPEN, false, 4096 },
    { "GET", "/llms.txt", api_docs_llms, ROUTE_OPEN, false, 4096 },
    { "GET", "/openapi.json", api_docs_openapi, ROUTE_OPEN, false, 4096 },
    { "GET", "/problems/{code}", api_problem_get, ROUTE_OPEN, false, 4096 },
    { "GET", "/readyz", api_health_ready, ROUTE_OPEN, false, 4096 },
};

static const struct not_yet NOT_YET[] = {
    { "/api/v2/projects/{project_id}/branches/{branch_id}/data-api", "the data API" },
    { "/api/v2/projects/{project_id}/branches/{branch_id}/auth", "authentication of an application's users" },
    { "/api/v2/projects/{project_id}/auth", "authentication of an application's users" },
    { "/api/v2/projects/{project_id}/jwks", "authentication of an application's users" },
    { "/api/v2/projects/auth", "authentication of an application's users" },
    { "/api/v2/projects/{project_id}/branch_anonymized", "anonymized branches" },
    { "/api/v2/projects/{project_id}/branches/{branch_id}/anonymize", "anonymized branches" },
    { "/api/v2/projects/{project_id}/branches/{branch_id}/anonymized_status", "anonymized branches" },
    { "/api/v2/projects/{project_id}/branches/{branch_id}/masking_rules", "anonymized branches" },
    { "/api/v2/projects/{project_id}/branches/{branch_id}/buckets", "object storage and functions" },
    { "/api/v2/projects/{project_id}/branches/{branch_id}/storage", "object storage and functions" },
    { "/api/v2/projects/{project_id}/branches/{branch_id}/functions", "object storage and functions" },
    { "/api/v2/projects/{project_id}/branches/{branch_id}/credentials", "object storage and functions" },
    { "/api/v2/projects/{project_id}/branches/{branch_id}/ai_gateway", "object storage and functions" },
    { "/api/v2/projects/{project_id}/advisors", "advisors" },
    { "/api/v2/projects/{project_id}/transfer_requests", "sharing and transferring of projects, and several accounts" },
    { "/api/v2/users/me/projects", "sharing and transferring of projects, and several accounts" },
    { "/api/v2/organizations/{org_id}/api_keys", "sharing and transferring of projects, and several accounts" },
    { "/api/v2/organizations/{org_id}/members", "sharing and transferring of projects, and several accounts" },
    { "/api/v2/organizations/{org_id}/billing", "sharing and transferring of projects, and several accounts" },
    { "/api/v2/organizations/{org_id}/invitations", "sharing and transferring of projects, and several accounts" },
    { "/api/v2/organizations/{org_id}/projects", "sharing and transferring of projects, and several accounts" },
    { "/api/v2/projects/{project_id}/vpc_endpoints", "private networks" },
    { "/api/v2/organizations/{org_id}/vpc", "private networks" },
    { "/api/v2/consumption_history/account", "records of consumption of an account" },
};
#endif

#endif
