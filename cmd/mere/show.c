/*
 * show.c - answers for people: tables and records; with --json the answer as it came
 */
#include "cli.h"

#define CELL_MAX 400

static json_t *lookup(json_t *obj, const char *path)
{
    while (obj != NULL && *path != '\0') {
        char key[64];
        size_t n = strcspn(path, ".");

        if (n >= sizeof(key))
            return NULL;
        memcpy(key, path, n);
        key[n] = '\0';
        obj = json_object_get(obj, key);
        path += n + (path[n] == '.');
    }
    return obj;
}

const char *cli_text(struct cli *c, json_t *obj, const char *path)
{
    json_t *v = lookup(obj, path);

    if (json_is_string(v))
        return arena_strdup(c->arena, json_string_value(v));
    if (json_is_integer(v))
        return arena_printf(c->arena, "%lld", (long long)json_integer_value(v));
    if (json_is_real(v))
        return arena_printf(c->arena, "%g", json_real_value(v));
    if (json_is_boolean(v))
        return json_is_true(v) ? "yes" : "no";
    return "";
}

/* What a terminal can be trusted with: control characters (names may come from anybody) become '?'; cut when
 * endless. */
static const char *cell(struct cli *c, json_t *obj, const char *path)
{
    char *s = arena_strdup(c->arena, cli_text(c, obj, path));

    for (char *p = s; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    if (strlen(s) > CELL_MAX)
        s[CELL_MAX] = '\0';
    return s[0] != '\0' ? s : "-";
}

/* Code points, which is near enough to columns for names and ids. */
static size_t width(const char *s)
{
    size_t n = 0;

    for (; *s != '\0'; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void put_padded(const char *s, size_t to, bool last)
{
    fputs(s, stdout);
    if (last)
        putchar('\n');
    else
        printf("%*s", (int)(to - width(s) + 2), "");
}

static int show_json(json_t *answer)
{
    json_dumpf(answer, stdout, JSON_INDENT(2));
    putchar('\n');
    return CLI_OK;
}

int cli_show_list(struct cli *c, json_t *answer, const char *key, const struct cli_column *cols, size_t n)
{
    json_t *rows = json_object_get(answer, key), *row;
    size_t *widths = arena_alloc(c->arena, n * sizeof(*widths));
    size_t i;

    if (c->opt[OPT_JSON] != NULL)
        return show_json(answer);
    for (size_t col = 0; col < n; col++)
        widths[col] = width(cols[col].title);
    json_array_foreach(rows, i, row)
    {
        for (size_t col = 0; col < n; col++) {
            size_t w = width(cell(c, row, cols[col].path));
            if (w > widths[col])
                widths[col] = w;
        }
    }
    for (size_t col = 0; col < n; col++)
        put_padded(cols[col].title, widths[col], col + 1 == n);
    json_array_foreach(rows, i, row)
    {
        for (size_t col = 0; col < n; col++)
            put_padded(cell(c, row, cols[col].path), widths[col], col + 1 == n);
    }
    return CLI_OK;
}

int cli_show_one(struct cli *c, json_t *answer, const char *key, const struct cli_column *cols, size_t n)
{
    json_t *obj = key != NULL ? json_object_get(answer, key) : answer;
    size_t widest = 0;

    if (c->opt[OPT_JSON] != NULL)
        return show_json(answer);
    for (size_t i = 0; i < n; i++)
        if (width(cols[i].title) > widest)
            widest = width(cols[i].title);
    for (size_t i = 0; i < n; i++) {
        if (cli_text(c, obj, cols[i].path)[0] == '\0')
            continue;
        put_padded(cols[i].title, widest, false);
        put_padded(cell(c, obj, cols[i].path), 0, true);
    }
    return CLI_OK;
}

int cli_show_deleted(struct cli *c, json_t *answer, const char *noun, const char *name)
{
    if (c->opt[OPT_JSON] != NULL)
        return show_json(answer);
    cli_say(c, "%s %s deleted", noun, name);
    return CLI_OK;
}
