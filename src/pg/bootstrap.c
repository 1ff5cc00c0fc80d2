#include "pg/bootstrap.h"

const char PG_BOOTSTRAP_SQL[] =
    "CREATE ROLE " PG_TEMPLATE_ROLE " LOGIN CREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;\n"
    "CREATE DATABASE " PG_TEMPLATE_DATABASE " OWNER " PG_TEMPLATE_ROLE ";\n"
    "REVOKE CREATE ON SCHEMA public FROM PUBLIC;\n" /* of the database we work in; before version 15 everybody
                                                       could create there */
    "CHECKPOINT;\n";
