/*
 * context.c - what is meant where nothing was said: .mere, and the user's own file
 *
 * A .mere of a stranger (in a directory where everybody may write) could send a command to another branch
 * than its user thinks, so it is an error where it would count.
 */
#include "context.h"

#include <limits.h>
#include <sys/stat.h>

#include "base/config.h"
#include "base/fs.h"
#include "base/text.h"
#include "body.h"

#define HERE ".mere"

#define HERE_KEY(member)                                                                                     \
    {                                                                                                        \
        .name = #member, .type = CONFIG_STR, .offset = offsetof(struct cli_here, member)                     \
    }
#define CONFIG_KEY(name_, member)                                                                            \
    {                                                                                                        \
        .name = name_, .type = CONFIG_STR, .offset = offsetof(struct cli_config, member)                     \
    }

static const struct config_key HERE_KEYS[] = { HERE_KEY(project), HERE_KEY(branch) };

static const struct config_key CONFIG_KEYS[] = {
    CONFIG_KEY("api-url", api_url),
    CONFIG_KEY("api-key-file", api_key_file),
    CONFIG_KEY("project", project),
};

const char *cli_env(const char *name)
{
    const char *v = getenv(name);

    return v != NULL && v[0] != '\0' ? v : NULL;
}

/* The nearest .mere from the working directory upwards. */
static bool find_here(struct cli *c, const char **ret, struct stat *ret_st)
{
    char dir[PATH_MAX];

    if (getcwd(dir, sizeof(dir)) == NULL || dir[0] != '/')
        return false;
    for (;;) {
        char *slash = strrchr(dir, '/');

        *ret = arena_printf(c->arena, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, HERE);
        if (stat(*ret, ret_st) == 0 && S_ISREG(ret_st->st_mode))
            return true;
        if (strcmp(dir, "/") == 0)
            return false;
        slash[slash == dir ? 1 : 0] = '\0';
    }
}

int cli_read_here(struct cli *c, struct cli_here *ret)
{
    struct err err = ERR_INIT;
    struct stat st;
    const char *path;

    *ret = (struct cli_here){ 0 };
    if (!find_here(c, &path, &st))
        return CLI_OK;
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return cli_fail(
            CLI_USAGE,
            "%s belongs to somebody else and is not believed; say --project and the branch, or remove it",
            path);
    ret->path = path;
    if (config_read(c->arena, HERE_KEYS, N_ELEMENTS(HERE_KEYS), path, ret, &err) < 0)
        return cli_fail(CLI_USAGE, "%s", err.msg);
    return CLI_OK;
}

int cli_read_config(struct cli *c, struct cli_config *ret)
{
    struct err err = ERR_INIT;
    const char *dir = cli_env("XDG_CONFIG_HOME"), *home = cli_env("HOME"), *path;

    *ret = (struct cli_config){ 0 };
    if (dir == NULL && home == NULL)
        return CLI_OK;
    path = dir != NULL ? arena_printf(c->arena, "%s/mere/config", dir)
                       : arena_printf(c->arena, "%s/.config/mere/config", home);
    if (!fs_exists(path))
        return CLI_OK;
    if (config_read(c->arena, CONFIG_KEYS, N_ELEMENTS(CONFIG_KEYS), path, ret, &err) < 0)
        return cli_fail(CLI_USAGE, "%s", err.msg);
    return CLI_OK;
}

/* Words are looked at before they get here; what the environment has is not. */
static int from_env(const char *name, const char **ret)
{
    *ret = cli_env(name);
    if (*ret != NULL && !text_is_utf8(*ret, strlen(*ret)))
        return cli_fail(CLI_USAGE, "%s is not UTF-8", name);
    return CLI_OK;
}

/* By a flag or the environment, and not by a file. */
static int explicit_project(struct cli *c, const char **ret)
{
    *ret = c->opt[OPT_PROJECT];
    return *ret != NULL ? CLI_OK : from_env("MERE_PROJECT", ret);
}

int cli_said_project(struct cli *c, const char **ret)
{
    struct cli_config config;
    struct cli_here here;
    int rc = explicit_project(c, ret);

    if (rc != CLI_OK || *ret != NULL)
        return rc;
    rc = cli_read_here(c, &here);
    *ret = here.project;
    if (rc != CLI_OK || *ret != NULL)
        return rc;
    rc = cli_read_config(c, &config);
    *ret = config.project;
    return rc;
}

int cli_pinned_branch(struct cli *c, const char *project, const char **ret)
{
    const char *said = NULL;
    struct cli_here here;
    int rc = from_env("MERE_BRANCH", ret);

    if (rc == CLI_OK && *ret == NULL)
        rc = explicit_project(c, &said);
    if (rc != CLI_OK || *ret != NULL)
        return rc;
    rc = cli_read_here(c, &here);
    if (rc == CLI_OK && (said == NULL || (here.project != NULL && (strcmp(here.project, project) == 0 ||
                                                                   strcmp(here.project, said) == 0))))
        *ret = here.branch;
    return rc;
}

/* --- checkout --- */

static int write_here(struct cli *c, const char *path, const char *project, const char *branch)
{
    struct err err = ERR_INIT;
    const char *text =
        arena_printf(c->arena,
                     "# What mere is about in this directory and below; written by mere checkout.\n"
                     "project = %s\nbranch = %s\n",
                     project, branch);

    if (fs_write_plain(path, text, strlen(text), 0644, (uid_t)-1, (gid_t)-1, &err) < 0)
        return cli_fail(CLI_FAILURE, "%s cannot be written and was not changed: %s", path, err.detail);
    return CLI_OK;
}

/* The branch of that name, made when it is not there and --create was given. */
static int find_or_make(struct cli *c, const char *project, const char *path, json_t **ret)
{
    json_auto_t *answer = NULL;
    int status = 0;
    int rc = cli_ask(c, "GET", arena_printf(c->arena, "%s/branches/%s", path, cli_enc(c, c->args[0])), NULL,
                     &status, &answer);

    if (rc != CLI_OK)
        return rc;
    if (status == 404 && c->opt[OPT_CREATE] != NULL)
        return cli_branch_make(c, project, path, c->args[0], ret);
    if (status == 404)
        return cli_fail(CLI_NOT_FOUND, "there is no branch \"%s\"; mere checkout %s --create makes it",
                        c->args[0], c->args[0]);
    if (status != 200)
        return cli_refused(c, status, answer);
    *ret = json_incref(answer);
    return CLI_OK;
}

int cli_checkout(struct cli *c)
{
    json_auto_t *answer = NULL;
    json_auto_t *shown = NULL;
    const char *project, *path, *branch;
    struct cli_here here;
    int rc = cli_read_here(c, &here);

    if (rc == CLI_OK)
        rc = cli_project_path(c, &project, &path);
    if (rc == CLI_OK)
        rc = find_or_make(c, project, path, &answer);
    if (rc != CLI_OK)
        return rc;
    branch = cli_text(c, answer, "branch.name");
    if (here.path == NULL)
        here.path = HERE;
    rc = write_here(c, here.path, project, branch);
    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_JSON] == NULL) {
        cli_say(c, "%s says branch %s of project %s from now on", here.path, branch, project);
        return CLI_OK;
    }
    shown = json_pack("{s:s, s:s, s:s}", "file", here.path, "project", project, "branch", branch);
    return cli_show_one(c, shown, NULL, NULL, 0);
}
