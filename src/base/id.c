/*
 * id.c - making and recognising identifiers
 *
 * Any thread.  Uniqueness rests on randomness alone: a branch or endpoint id has about 53 random bits, and
 * the table that keeps it has a unique key.
 */
#include "base/id.h"

#include "base/crypt.h"
#include "base/text.h"

static const char LOWER_ALNUM[] = "abcdefghijklmnopqrstuvwxyz0123456789";
static const char ALNUM[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

static const char *const ADJECTIVES[] = {
    "amber",    "ancient",   "autumn",    "billowing", "bold",   "brave",    "bright", "broad",  "calm",
    "clear",    "cold",      "cool",      "crimson",   "curly",  "damp",     "dark",   "dawn",   "deep",
    "dry",      "early",     "falling",   "fancy",     "flat",   "fragrant", "frosty", "gentle", "golden",
    "green",    "hidden",    "holy",      "icy",       "jolly",  "late",     "little", "lively", "long",
    "lucky",    "mellow",    "misty",     "morning",   "muddy",  "noisy",    "odd",    "old",    "orange",
    "patient",  "plain",     "polished",  "proud",     "purple", "quiet",    "rapid",  "red",    "restless",
    "rough",    "round",     "royal",     "shiny",     "shy",    "silent",   "small",  "snowy",  "soft",
    "solitary", "spring",    "square",    "steep",     "still",  "summer",   "sweet",  "tight",  "twilight",
    "violet",   "wandering", "weathered", "white",     "wild",   "winter",   "wispy",  "young",
};

static const char *const NOUNS[] = {
    "band",      "bar",      "base",       "bird",      "block",     "boat",   "bonus",  "bread",
    "breeze",    "brook",    "bush",       "butterfly", "cake",      "cell",   "cherry", "cloud",
    "credit",    "darkness", "dawn",       "dew",       "disk",      "dream",  "dust",   "feather",
    "field",     "fire",     "firefly",    "flower",    "fog",       "forest", "frog",   "frost",
    "glade",     "glitter",  "grass",      "hall",      "hat",       "haze",   "heart",  "hill",
    "king",      "lab",      "lake",       "leaf",      "limit",     "math",   "meadow", "mode",
    "moon",      "morning",  "mountain",   "mouse",     "mud",       "night",  "paper",  "pine",
    "poetry",    "pond",     "queen",      "rain",      "resonance", "rice",   "river",  "salad",
    "scene",     "sea",      "shadow",     "shape",     "silence",   "sky",    "smoke",  "snow",
    "snowflake", "sound",    "star",       "sun",       "sunset",    "surf",   "term",   "thunder",
    "tooth",     "tree",     "truth",      "union",     "unit",      "violet", "voice",  "water",
    "waterfall", "wave",     "wildflower", "wind",      "wood",
};

/* Evenly distributed in 0..n-1 (n <= 256): values that would favour the small ones are thrown away. */
static unsigned random_below(unsigned n)
{
    unsigned limit = 256 - 256 % n;
    uint8_t byte;

    do {
        crypt_random(&byte, 1);
    } while (byte >= limit);
    return byte % n;
}

static void random_text(char *out, size_t len, const char *alphabet)
{
    unsigned n = (unsigned)strlen(alphabet);

    for (size_t i = 0; i < len; i++)
        out[i] = alphabet[random_below(n)];
    out[len] = '\0';
}

static const char *adjective(void)
{
    return ADJECTIVES[random_below(N_ELEMENTS(ADJECTIVES))];
}

static const char *noun(void)
{
    return NOUNS[random_below(N_ELEMENTS(NOUNS))];
}

const char *id_project(struct arena *a)
{
    char number[9];

    random_text(number, 8, "0123456789");
    if (number[0] == '0')
        number[0] = '1'; /* keeps it a number of eight digits for those who parse it */
    return arena_printf(a, "%s-%s-%s", adjective(), noun(), number);
}

static const char *with_prefix(struct arena *a, const char *prefix)
{
    char tail[9];

    random_text(tail, 8, LOWER_ALNUM);
    return arena_printf(a, "%s-%s-%s-%s", prefix, adjective(), noun(), tail);
}

const char *id_branch(struct arena *a)
{
    return with_prefix(a, "br");
}

const char *id_endpoint(struct arena *a)
{
    return with_prefix(a, "ep");
}

const char *id_snapshot(struct arena *a)
{
    return with_prefix(a, "snap");
}

const char *id_image(struct arena *a)
{
    char tail[17];

    random_text(tail, 16, "0123456789abcdef");
    return arena_printf(a, "im-%s", tail);
}

const char *id_uuid(struct arena *a)
{
    uint8_t b[16];

    crypt_random(b, sizeof(b));
    b[6] = (uint8_t)((b[6] & 0x0F) | 0x40); /* version 4 */
    b[8] = (uint8_t)((b[8] & 0x3F) | 0x80); /* variant of RFC 4122 */
    return arena_printf(a, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
                        b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
                        b[15]);
}

const char *id_password(struct arena *a)
{
    char text[13];

    random_text(text, 12, ALNUM);
    return arena_printf(a, "npg_%s", text);
}

const char *id_token(struct arena *a)
{
    char text[65];

    random_text(text, 64, LOWER_ALNUM);
    return arena_printf(a, "napi_%s", text);
}

bool id_is_valid(const char *s)
{
    size_t len = s != NULL ? strlen(s) : 0;

    return len >= 1 && len <= ID_MAX && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

/* prefix + three parts of [a-z0-9]+ between dashes; no limit of length, that is for the caller. */
static bool looks_like(const char *s, const char *prefix)
{
    if (s == NULL || !text_starts_with(s, prefix))
        return false;
    s += strlen(prefix);
    for (int part = 0; part < 3; part++) {
        size_t n = strspn(s, LOWER_ALNUM);

        if (n == 0 || s[n] != (part < 2 ? '-' : '\0'))
            return false;
        s += n + (part < 2);
    }
    return true;
}

bool id_looks_like_branch(const char *s)
{
    return looks_like(s, "br-");
}

bool id_looks_like_endpoint(const char *s)
{
    return looks_like(s, "ep-");
}
