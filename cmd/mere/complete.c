/*
 * complete.c - what can stand where the cursor is, for shells
 *
 * Shells call the hidden `mere __complete -- WORD...`: a candidate in each line, with a tab and what it is
 * after it; or the one line ":files".  It says nothing else, and takes a second at most.
 */
#include "table.h"

#include <signal.h>
#include <sys/time.h>

#include "body.h"

#define FILES ":files"

/* What is being completed. */
struct completion {
    struct cli *c; /* of the words before it */
    const char *partial;
};

static void offer(const struct completion *w, const char *word, const char *help)
{
    if (strncmp(word, w->partial, strlen(w->partial)) != 0 || strpbrk(word, "\t\n") != NULL)
        return;
    printf("%s\t%s\n", word, help);
}

/* --- what the server knows --- */

static void offer_names(const struct completion *w, const char *path, const char *key, const char *cursor_key,
                        const char *other_key)
{
    struct cli *c = w->c;
    json_auto_t *answer = NULL;
    json_t *one;
    size_t i;

    if (cli_call_list(c, path, key, cursor_key, &answer) != CLI_OK)
        return;
    json_array_foreach(json_object_get(answer, key), i, one)
        offer(w, cli_text(c, one, "name"), cli_text(c, one, other_key));
}

static void offer_projects(const struct completion *w)
{
    if (cli_find_server(w->c) == CLI_OK)
        offer_names(w, "/projects", "projects", "cursor", "id");
}

static void offer_branches(const struct completion *w)
{
    const char *project, *path;

    if (cli_find_server(w->c) == CLI_OK && cli_project_path(w->c, &project, &path) == CLI_OK)
        offer_names(w, arena_printf(w->c->arena, "%s/branches", path), "branches", "next", "current_state");
}

/* --- what the tables know --- */

/* "full|relaxed" */
static void offer_alternatives(const struct completion *w, const char *list)
{
    while (*list != '\0') {
        size_t n = strcspn(list, "|");

        offer(w, arena_strndup(w->c->arena, list, n), "");
        list += n + (list[n] == '|');
    }
}

/* What a placeholder stands for: it says so itself. */
static void offer_values(const struct completion *w, const char *placeholder)
{
    static const struct {
        const char *word;
        void (*fn)(const struct completion *w);
    } KINDS[] = { { "PROJECT", offer_projects }, { "BRANCH", offer_branches }, { "SOURCE", offer_branches } };

    for (size_t i = 0; i < N_ELEMENTS(KINDS); i++)
        if (strstr(placeholder, KINDS[i].word) != NULL) {
            KINDS[i].fn(w);
            return;
        }
    if (strcmp(placeholder, "FILE") == 0)
        puts(FILES);
    else if (strchr(placeholder, '|') != NULL && placeholder[0] >= 'a')
        offer_alternatives(w, placeholder);
}

static void offer_option_value(const struct completion *w, enum cli_option o)
{
    static const struct {
        enum cli_option option;
        const char *is;
    } NAMES[] = { { OPT_BRANCH, "BRANCH" }, { OPT_PROJECT, "PROJECT" } };

    for (size_t i = 0; i < N_ELEMENTS(NAMES); i++)
        if (NAMES[i].option == o) {
            offer_values(w, NAMES[i].is);
            return;
        }
    offer_values(w, OPTIONS[o].arg);
}

static void offer_options(const struct completion *w, const struct command *cmd)
{
    for (size_t o = 0; o < OPT_COUNT; o++)
        if (command_takes(cmd, OPTIONS[o].name))
            offer(w, arena_printf(w->c->arena, "--%s", OPTIONS[o].name),
                  command_meaning(cmd, (enum cli_option)o));
}

static void offer_nouns(const struct completion *w)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const struct command *cmd = &COMMANDS[i];
        bool again = i > 0 && strcmp(COMMANDS[i - 1].noun, cmd->noun) == 0;

        if (!again && (cmd->flags & CMD_HIDDEN) == 0)
            offer(w, cmd->noun, cmd->verb == NULL ? cmd->help : "");
    }
}

static void offer_verbs(const struct completion *w, const char *noun)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (COMMANDS[i].verb != NULL && noun_is(COMMANDS[i].noun, noun))
            offer(w, COMMANDS[i].verb, COMMANDS[i].help);
}

/* The n-th word of "BRANCH SOURCE[@LSN|@TIME]" or "[BRANCH] [-- ARGS]". */
static void offer_argument(const struct completion *w, const struct command *cmd, size_t n)
{
    const char *p = cmd->args;

    for (; n > 0; n--) {
        p += strcspn(p, " ");
        p += strspn(p, " ");
    }
    p += strspn(p, "[");
    offer_values(w, arena_strndup(w->c->arena, p, strcspn(p, " ]")));
}

/* --- the words --- */

/* The option whose value comes next, or OPT_COUNT. */
static enum cli_option waiting_option(const char *word)
{
    size_t o = 0;

    while (o < OPT_COUNT &&
           (strncmp(word, "--", 2) != 0 || OPTIONS[o].arg == NULL || strcmp(word + 2, OPTIONS[o].name) != 0))
        o++;
    return (enum cli_option)o;
}

static void complete(struct completion *w, enum cli_option waiting)
{
    struct cli *c = w->c;
    const char *noun = c->n_args > 0 ? c->args[0] : NULL;
    const struct command *cmd = noun != NULL ? command_find(noun, c->n_args > 1 ? c->args[1] : NULL) : NULL;

    if (waiting != OPT_COUNT)
        offer_option_value(w, waiting);
    else if (w->partial[0] == '-')
        offer_options(w, cmd);
    else if (noun == NULL)
        offer_nouns(w);
    else if (cmd == NULL && c->n_args == 1)
        offer_verbs(w, noun);
    else if (cmd != NULL)
        offer_argument(w, cmd, c->n_args - (cmd->verb != NULL ? 2 : 1));
}

static void on_alarm(int signo)
{
    (void)signo;
    _exit(0);
}

/* A shell that waits for a server is a shell that hangs. */
static void limit_time(void)
{
    const struct itimerval second = { .it_value.tv_sec = 1 };

    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &second, NULL);
}

/*
 * Bash takes --name=value for three words.  The words before the last are read as those of a command are;
 * with a
 * `--` among them the rest is another program's.
 */
int cli_complete(struct cli *c)
{
    struct cli before = { .arena = c->arena };
    struct completion w = { .c = &before, .partial = "" };
    enum cli_option waiting = OPT_COUNT;
    char **argv;
    int n = 0, argc = 1;

    if (freopen("/dev/null", "w", stderr) == NULL)
        return CLI_OK;
    limit_time();
    while (c->rest[n] != NULL)
        n++;
    argv = arena_alloc(c->arena, (size_t)(n + 2) * sizeof(*argv));
    argv[0] = arena_strdup(c->arena, "mere");
    for (int i = 0; i < n; i++)
        if (strcmp(c->rest[i], "=") != 0)
            argv[argc++] = c->rest[i];
        else if (i == n - 1)
            argv[argc++] = arena_strdup(c->arena, "");
    if (argc > 1)
        w.partial = argv[--argc];
    argv[argc] = NULL;
    if (argc > 1)
        waiting = waiting_option(argv[argc - 1]);
    if (waiting != OPT_COUNT)
        argv[--argc] = NULL;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--") == 0)
            return CLI_OK;
    if (cli_parse(&before, argc, argv) == CLI_OK)
        complete(&w, waiting);
    return CLI_OK;
}

/* --- the scripts --- */

static const char BASH[] =
    "# bash completion of mere; put it into /usr/share/bash-completion/completions/mere, or\n"
    "# eval \"$(mere completion bash)\"\n"
    "_mere() {\n"
    "    local out line _\n"
    "    COMPREPLY=()\n"
    "    out=$(mere __complete -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null) || return 0\n"
    "    if [ \"$out\" = :files ]; then\n"
    "        compopt -o default\n"
    "        return 0\n"
    "    fi\n"
    "    while IFS=$'\\t' read -r line _; do\n"
    "        [ -z \"$line\" ] || COMPREPLY+=(\"$(printf %q \"$line\")\")\n"
    "    done <<<\"$out\"\n"
    "}\n"
    "complete -F _mere mere\n";

static const char ZSH[] = "#compdef mere\n"
                          "# zsh completion of mere; put it into a file _mere in a directory of $fpath, or\n"
                          "# eval \"$(mere completion zsh)\"\n"
                          "_mere() {\n"
                          "    local out line\n"
                          "    local -a entries\n"
                          "    out=$(mere __complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)\n"
                          "    if [[ $out == :files ]]; then\n"
                          "        _files\n"
                          "        return\n"
                          "    fi\n"
                          "    for line in \"${(@f)out}\"; do\n"
                          "        [[ -n $line ]] || continue\n"
                          "        entries+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")\n"
                          "    done\n"
                          "    (( $#entries )) && _describe mere entries\n"
                          "}\n"
                          "if [[ $funcstack[1] == _mere ]]; then\n"
                          "    _mere \"$@\"\n"
                          "else\n"
                          "    compdef _mere mere\n"
                          "fi\n";

static const char FISH[] = "# fish completion of mere; put it into ~/.config/fish/completions/mere.fish\n"
                           "function __mere_complete\n"
                           "    set -l words (commandline -opc)\n"
                           "    set -l current (commandline -ct)\n"
                           "    set -e words[1]\n"
                           "    set -l out (mere __complete -- $words \"$current\" 2>/dev/null)\n"
                           "    if test \"$out\" = :files\n"
                           "        __fish_complete_path \"$current\"\n"
                           "    else\n"
                           "        printf '%s\\n' $out\n"
                           "    end\n"
                           "end\n"
                           "complete -c mere -f -a '(__mere_complete)'\n";

int cli_completion(struct cli *c)
{
    static const struct {
        const char *shell, *script;
    } SCRIPTS[] = { { "bash", BASH }, { "zsh", ZSH }, { "fish", FISH } };

    for (size_t i = 0; i < N_ELEMENTS(SCRIPTS); i++)
        if (strcmp(SCRIPTS[i].shell, c->args[0]) == 0) {
            fputs(SCRIPTS[i].script, stdout);
            return CLI_OK;
        }
    return cli_fail(CLI_USAGE, "there is no completion for \"%s\"; there is for bash, zsh and fish",
                    c->args[0]);
}
