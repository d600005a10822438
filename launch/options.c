/* launch/options.c: the options table, the parser, the environment twins. */
#include "launch/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "launch/foreign.h"

enum { NAME_BYTES = 64, WORD_BYTES = 64, LIST_MAX = LIMIT_CONTEXT };

#define TYPE(t) OPT_##t
static const opt_row_t rows[OPT_ID_COUNT] = {
#define OPT(id, spellings, type, metavar, def, min, max, choices, commands, group, help)           \
    [OPT_##id] = {spellings, TYPE(type), metavar, def, min, max, choices, commands, group, help},
#include "launch/options.def"
#undef OPT
};

const opt_row_t *opt_row(opt_id_t id)
{
    base_assert((unsigned)id < OPT_ID_COUNT);
    return &rows[id];
}

const char *opt_group_title(opt_group_t group)
{
    static const char *const titles[GROUP_COUNT] = {
        "Model",    "Text in and out",   "Chat",
        "Sampling", "Evaluation",        "Bench",
        "Cluster",  "Ranks and machine", "Results and messages",
    };
    base_assert((unsigned)group < GROUP_COUNT);
    return titles[group];
}

bool opt_next_word(const char **at, char sep, char *buf, size_t buf_bytes)
{
    const char *p = *at;
    size_t      n = 0;

    while (*p == sep) p++;
    if (*p == '\0') return false;
    while (p[n] != '\0' && p[n] != sep) n++;
    base_assert(n < buf_bytes);
    memcpy(buf, p, n);
    buf[n] = '\0';
    *at    = p + n;
    return true;
}

const char *opt_name(opt_id_t id, char *buf, size_t buf_bytes)
{
    const char *at = opt_row(id)->spellings;
    char        word[WORD_BYTES];

    (void)snprintf(buf, buf_bytes, "%.*s", (int)strcspn(at, " "), at);
    while (opt_next_word(&at, ' ', word, sizeof(word))) {
        if (strncmp(word, "--", 2) != 0) continue;
        (void)snprintf(buf, buf_bytes, "%s", word);
        break;
    }
    return buf;
}

const char *opt_choices_text(opt_id_t id, char *buf, size_t buf_bytes)
{
    const char *at = opt_row(id)->choices;
    size_t      n  = 0;
    char        word[WORD_BYTES];

    buf[0] = '\0';
    while (opt_next_word(&at, '|', word, sizeof(word)) && n < buf_bytes)
        n += (size_t)snprintf(buf + n, buf_bytes - n, "%s%s", n > 0 ? ", " : "", word);
    return buf;
}

const char *opt_env_name(opt_id_t id, char *buf, size_t buf_bytes)
{
    char name[NAME_BYTES];

    if (id == OPT_HELP || id == OPT_VERSION || id == OPT_MAN) return NULL;
    (void)opt_name(id, name, sizeof(name));
    if (strncmp(name, "--", 2) != 0) return NULL;
    for (char *c = name; *c != '\0'; c++) *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    if (id == OPT_COMM) return NULL; /* TRIREME_COMM is the means of comm/grid.c */
    (void)snprintf(buf, buf_bytes, "TRIREME_%s", name + 2);
    return buf;
}

/* ---- values ---- */

/* A text, what to call it, and where its value goes. */
typedef struct {
    const opt_row_t *row;
    const char      *label; /* "--top-p", "TRIREME_TOP_P (environment)" */
    opt_value_t     *value;
    base_err_t      *err;
} target_t;

static base_status_t bad_number(const target_t *t, const char *text, const char *what)
{
    char max[32];

    (void)snprintf(max, sizeof(max), "%.15g", t->row->max);
    return base_fail(t->err, BASE_ERR_USAGE, "%s: '%s' is not %s from %.15g to %s", t->label, text,
                     what, t->row->min, max);
}

/* Integer with an optional suffix: k m g t are powers of 1000, K M G T of 1024 (as vLLM has it). */
static bool parse_scaled(const char *text, bool suffix, int64_t *out)
{
    static const char letters[] = "kmgt";
    char             *end       = NULL;
    double            v         = 0;
    double            scale     = 1;

    if (text[0] == '\0' || isspace((unsigned char)text[0])) return false;
    errno           = 0;
    long long whole = strtoll(text, &end, 10);
    if (errno == 0 && end != text && *end == '\0') {
        *out = whole;
        return true;
    }
    if (!suffix || strpbrk(text, "xXnNeE") != NULL) return false; /* no hex, nan, inf, 1e3 */
    v = strtod(text, &end);
    if (end == text || end[0] == '\0' || end[1] != '\0') return false;
    const char *letter = strchr(letters, tolower((unsigned char)end[0]));
    if (letter == NULL) return false;
    for (long i = 0; i <= letter - letters; i++)
        scale *= islower((unsigned char)end[0]) ? 1000.0 : 1024.0;
    v *= scale;
    if (v != floor(v) || fabs(v) > 9e15) return false;
    *out = (int64_t)v;
    return true;
}

static base_status_t set_integer(const target_t *t, const char *text)
{
    bool        suffix = t->row->type != OPT_INT;
    const char *what   = suffix ? "an integer (suffixes k, K, m, M, g, G)" : "an integer";
    int64_t     v      = 0;

    if (!parse_scaled(text, suffix, &v)) return bad_number(t, text, what);
    if ((double)v < t->row->min || (double)v > t->row->max) return bad_number(t, text, what);
    t->value->i = v;
    return BASE_OK;
}

static base_status_t set_float(const target_t *t, const char *text)
{
    char  *end = NULL;
    double v   = 0;

    errno = 0;
    if (text[0] == '\0' || isspace((unsigned char)text[0])) return bad_number(t, text, "a number");
    v = strtod(text, &end);
    if (*end != '\0' || !isfinite(v) || v < t->row->min || v > t->row->max)
        return bad_number(t, text, "a number");
    t->value->f = v;
    return BASE_OK;
}

static base_status_t set_choice(const target_t *t, const char *text)
{
    const char *at = t->row->choices;
    char        word[WORD_BYTES];
    char        all[256];

    while (opt_next_word(&at, '|', word, sizeof(word))) {
        if (strcmp(word, text) != 0) continue;
        t->value->s = text;
        return BASE_OK;
    }
    return base_fail(t->err, BASE_ERR_USAGE, "%s: '%s' is not one of %s", t->label, text,
                     opt_choices_text((opt_id_t)(t->row - rows), all, sizeof(all)));
}

static base_status_t append_int(const target_t *t, int64_t v)
{
    opt_value_t *value = t->value;

    if (value->n >= (uint32_t)LIST_MAX)
        return base_fail(t->err, BASE_ERR_USAGE, "%s: more than %d numbers", t->label, LIST_MAX);
    if ((value->n & (value->n - 1)) == 0) { /* full at 0, 1, 2, 4, ...: double */
        size_t   room  = value->n == 0 ? 1 : 2 * (size_t)value->n;
        int64_t *grown = realloc(value->ints, room * sizeof(*grown));
        if (grown == NULL)
            return base_fail(t->err, BASE_ERR_MEMORY, "%s: no memory for %zu numbers", t->label,
                             room);
        value->ints = grown;
    }
    value->ints[value->n++] = v;
    return BASE_OK;
}

/* One item of a list: "7", or llama-bench's ranges "8-64", "8-64+8", "8-64*2". */
static base_status_t append_item(const target_t *t, const char *item)
{
    long long first = 0;
    long long last  = 0;
    long long by    = 1;
    char      op    = '+';
    int       used  = 0;
    int n = sscanf(item, "%lld%n-%lld%n%c%lld%n", &first, &used, &last, &used, &op, &by, &used);

    if (n == 1) last = first;
    if (n < 1 || n == 3 || (size_t)used != strlen(item) || isspace((unsigned char)item[0]) ||
        (op != '+' && op != '*') || last < first || by < (op == '*' ? 2 : 1) ||
        by > LIMIT_CONTEXT || (op == '*' && first < 1) || (double)first < t->row->min ||
        (double)last > t->row->max)
        return bad_number(t, item, "an integer (or a range such as 8-64+8 or 8-64*2)");
    for (long long v = first; v <= last; v = op == '*' ? v * by : v + by) {
        base_status_t st = append_int(t, v);
        if (st != BASE_OK) return st;
    }
    return BASE_OK;
}

static base_status_t append_list(const target_t *t, const char *text)
{
    const char *p = text;

    while (true) {
        char          item[WORD_BYTES];
        size_t        n  = strcspn(p, ",");
        base_status_t st = BASE_OK;
        if (n >= sizeof(item)) n = sizeof(item) - 1;
        memcpy(item, p, n);
        item[n] = '\0';
        st      = append_item(t, item);
        if (st != BASE_OK) return st;
        if (p[n] == '\0') return BASE_OK;
        p += n + 1;
    }
}

static base_status_t append_string(const target_t *t, const char *text)
{
    opt_value_t *value = t->value;
    const char **grown = NULL;

    if (text[0] == '\0') return base_fail(t->err, BASE_ERR_USAGE, "%s: empty text", t->label);
    if (value->n >= (uint32_t)LIMIT_STOP_STRINGS)
        return base_fail(t->err, BASE_ERR_USAGE, "%s: given more than %d times", t->label,
                         LIMIT_STOP_STRINGS);
    grown = realloc(value->strings, (value->n + 1) * sizeof(*grown));
    if (grown == NULL) return base_fail(t->err, BASE_ERR_MEMORY, "%s: no memory", t->label);
    value->strings             = grown;
    value->strings[value->n++] = text;
    return BASE_OK;
}

static base_status_t set_flag(const target_t *t, const char *text)
{
    static const char *const words[] = {"0", "1", "false", "true", "off", "on", "no", "yes"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasecmp(text, words[i]) != 0) continue;
        t->value->i = (int64_t)(i & 1);
        return BASE_OK;
    }
    return base_fail(t->err, BASE_ERR_USAGE, "%s: '%s' is neither 1 nor 0", t->label, text);
}

static base_status_t set_value(const target_t *t, const char *text, opt_origin_t origin)
{
    base_status_t st = BASE_OK;

    if (t->value->origin != origin) t->value->n = 0; /* lists of one origin replace the others' */
    switch (t->row->type) {
    case OPT_FLAG: st = set_flag(t, text); break;
    case OPT_INT:
    case OPT_COUNT:
    case OPT_SIZE: st = set_integer(t, text); break;
    case OPT_FLOAT: st = set_float(t, text); break;
    case OPT_CHOICE: st = set_choice(t, text); break;
    case OPT_INTS: st = append_list(t, text); break;
    case OPT_STRINGS: st = append_string(t, text); break;
    case OPT_PATH:
        if (text[0] == '\0') st = base_fail(t->err, BASE_ERR_USAGE, "%s: empty name", t->label);
        t->value->s = text;
        break;
    case OPT_STRING: t->value->s = text; break;
    }
    if (st == BASE_OK) t->value->origin = origin;
    return st;
}

/* ---- the line ---- */

/* Does a word of the line (its first n bytes) name this option? "--top_k" is "--top-k". */
static bool spelled(const opt_row_t *row, const char *word, size_t n)
{
    const char *at = row->spellings;
    char        name[WORD_BYTES];

    while (opt_next_word(&at, ' ', name, sizeof(name))) {
        if (strlen(name) != n) continue;
        bool same = true;
        for (size_t i = 0; i < n && same; i++)
            same =
                name[i] == word[i] || (i > 1 && name[1] == '-' && name[i] == '-' && word[i] == '_');
        if (same) return true;
    }
    return false;
}

static opt_id_t find(uint32_t command, const char *word, size_t n)
{
    for (int id = 0; id < OPT_ID_COUNT; id++)
        if ((rows[id].commands & command) != 0 && spelled(&rows[id], word, n)) return (opt_id_t)id;
    return OPT_ID_COUNT;
}

static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_BYTES + 1];
    size_t na = strnlen(a, WORD_BYTES);
    size_t nb = strnlen(b, WORD_BYTES);

    for (size_t j = 0; j <= nb; j++) row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0]          = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            size_t other  = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
            diagonal      = row[j];
            row[j]        = change < other ? change : other;
        }
    }
    return row[nb];
}

const char *opt_nearest(const char *word, const char *const *names, size_t n)
{
    const char *best  = NULL;
    size_t      core  = strnlen(word, WORD_BYTES) - strspn(word, "-");
    size_t      score = core < 3 ? 0 : core / 3 + 1; /* more edits than that: another word */

    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, names[i]);
        if (d > score || (d == score && best != NULL)) continue;
        best  = names[i];
        score = d;
    }
    return best;
}

static base_status_t unknown_option(uint32_t command, const char *word, size_t n, base_err_t *err)
{
    static char names[OPT_ID_COUNT * 4][WORD_BYTES]; /* start-up, one thread */
    const char *list[OPT_ID_COUNT * 4];
    size_t      count = 0;
    char        wrong[WORD_BYTES];
    const char *near = NULL;
    const char *hint = foreign_option(command, word, n);

    (void)snprintf(wrong, sizeof(wrong), "%.*s", (int)n, word);
    if (hint != NULL) return base_fail(err, BASE_ERR_USAGE, "unknown option '%s': %s", wrong, hint);
    for (int id = 0; id < OPT_ID_COUNT; id++) {
        const char *at = rows[id].spellings;
        if ((rows[id].commands & command) == 0) continue;
        while (count < sizeof(list) / sizeof(list[0]) &&
               opt_next_word(&at, ' ', names[count], WORD_BYTES)) {
            list[count] = names[count];
            count++;
        }
    }
    near = opt_nearest(wrong, list, count);
    for (size_t i = 0; i < count; i++) /* a dash too few or too many */
        if (strcmp(wrong + strspn(wrong, "-"), list[i] + strspn(list[i], "-")) == 0) near = list[i];
    return base_fail(err, BASE_ERR_USAGE, "unknown option '%s'%s%s%s", wrong,
                     near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                     near != NULL ? "'?" : "");
}

/* Values that may stand on the line without their option, in this order. */
static opt_id_t bare_value(uint32_t command, const options_t *options)
{
    static const opt_id_t ids[] = {OPT_MODEL, OPT_OUTPUT};
    if ((command & (CMD_CONVERT | CMD_VERIFY | CMD_INSPECT | CMD_TOKENIZE)) == 0)
        return OPT_ID_COUNT;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        if ((rows[ids[i]].commands & command) != 0 && options->v[ids[i]].origin != OPT_FROM_LINE)
            return ids[i];
    return OPT_ID_COUNT;
}

static base_status_t parse_word(uint32_t command, int argc, const char *const *argv, int *at,
                                options_t *options, base_err_t *err)
{
    const char *word = argv[*at];
    const char *text = NULL;
    size_t      n    = strlen(word);
    opt_id_t    id   = find(command, word, n);
    char        label[NAME_BYTES];

    const opt_id_t bare = word[0] != '-' ? bare_value(command, options) : OPT_ID_COUNT;
    if (bare != OPT_ID_COUNT) {
        const target_t to = {&rows[bare], opt_name(bare, label, sizeof(label)), &options->v[bare],
                             err};
        return set_value(&to, word, OPT_FROM_LINE);
    }
    if (word[0] != '-' || word[1] == '\0')
        return base_fail(err, BASE_ERR_USAGE,
                         "unexpected argument '%s': a value needs its option before it%s", word,
                         (rows[OPT_MODEL].commands & command) != 0 &&
                                 options->v[OPT_MODEL].origin != OPT_FROM_LINE
                             ? ", a model -m"
                             : "");
    if (id == OPT_ID_COUNT && strchr(word, '=') != NULL) {
        n    = strcspn(word, "=");
        text = word + n + 1;
        id   = find(command, word, n);
    }
    if (id == OPT_ID_COUNT) return unknown_option(command, word, n, err);
    (void)snprintf(label, sizeof(label), "%.*s", (int)n, word);
    const target_t t = {&rows[id], label, &options->v[id], err};

    if (rows[id].type == OPT_FLAG) {
        if (text != NULL && id == OPT_HELP) {
            t.value->s      = text;
            t.value->i      = 1;
            t.value->origin = OPT_FROM_LINE;
            return BASE_OK;
        }
        return set_value(&t, text != NULL ? text : "1", OPT_FROM_LINE);
    }
    if (text == NULL) {
        bool last = *at + 1 >= argc;
        if (last || (rows[id].type != OPT_STRING && rows[id].type != OPT_STRINGS &&
                     find(command, argv[*at + 1], strlen(argv[*at + 1])) != OPT_ID_COUNT))
            return base_fail(err, BASE_ERR_USAGE, "%s needs a value (%s)%s%s", label,
                             rows[id].metavar, last ? "" : ", not the option ",
                             last ? "" : argv[*at + 1]);
        text = argv[++*at];
    }
    return set_value(&t, text, OPT_FROM_LINE);
}

static base_status_t parse_environment(uint32_t command, char *const *environ, options_t *options,
                                       base_err_t *err)
{
    for (int id = 0; id < OPT_ID_COUNT && environ != NULL; id++) {
        char        name[NAME_BYTES];
        char        label[NAME_BYTES + 16];
        const char *text = NULL;
        size_t      n    = 0;
        if ((rows[id].commands & command) == 0 || options->v[id].origin == OPT_FROM_LINE) continue;
        if (opt_env_name((opt_id_t)id, name, sizeof(name)) == NULL) continue;
        n = strlen(name);
        for (char *const *e = environ; *e != NULL && text == NULL; e++)
            if (strncmp(*e, name, n) == 0 && (*e)[n] == '=') text = *e + n + 1;
        if (text == NULL) continue;
        (void)snprintf(label, sizeof(label), "%s (environment)", name);
        const target_t t  = {&rows[id], label, &options->v[id], err};
        base_status_t  st = set_value(&t, text, OPT_FROM_ENV);
        if (st != BASE_OK) return st;
    }
    return BASE_OK;
}

base_status_t options_parse(uint32_t command, int argc, const char *const *argv,
                            char *const *environ, options_t *options, base_err_t *err)
{
    base_status_t st = BASE_OK;

    base_assert(options != NULL);
    base_assert(argc == 0 || argv != NULL);
    memset(options, 0, sizeof(*options));
    options->command = command;
    for (int id = 0; id < OPT_ID_COUNT; id++) {
        const target_t t = {&rows[id], rows[id].spellings, &options->v[id], err};
        if ((rows[id].commands & command) == 0) continue;
        if (rows[id].def == NULL)
            t.value->origin = OPT_FROM_DEFAULT;
        else
            st = set_value(&t, rows[id].def, OPT_FROM_DEFAULT);
        base_assert(st == BASE_OK); /* a default breaks its own rule */
    }
    for (int at = 0; at < argc; at++) {
        st = parse_word(command, argc, argv, &at, options, err);
        if (st != BASE_OK) return st;
        if (options->v[OPT_HELP].i != 0 || options->v[OPT_VERSION].i != 0 ||
            options->v[OPT_MAN].i != 0)
            return BASE_OK;
    }
    return parse_environment(command, environ, options, err);
}

void options_free(options_t *options)
{
    for (int id = 0; id < OPT_ID_COUNT; id++) {
        free(options->v[id].ints);
        free(options->v[id].strings);
    }
    memset(options, 0, sizeof(*options));
}

/* ---- reading ---- */

static const opt_value_t *get(const options_t *o, opt_id_t id)
{
    base_assert((unsigned)id < OPT_ID_COUNT);
    base_assert((rows[id].commands & o->command) != 0);
    return &o->v[id];
}

bool opt_given(const options_t *o, opt_id_t id)
{
    return get(o, id)->origin >= OPT_FROM_ENV;
}

bool opt_flag(const options_t *o, opt_id_t id)
{
    base_assert(rows[id].type == OPT_FLAG);
    return get(o, id)->i != 0;
}

int64_t opt_int(const options_t *o, opt_id_t id)
{
    base_assert(rows[id].type == OPT_INT || rows[id].type == OPT_COUNT ||
                rows[id].type == OPT_SIZE);
    return get(o, id)->i;
}

uint32_t opt_u32(const options_t *o, opt_id_t id)
{
    int64_t v = opt_int(o, id);
    return v < 0 ? 0 : v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

double opt_float(const options_t *o, opt_id_t id)
{
    base_assert(rows[id].type == OPT_FLOAT);
    return get(o, id)->f;
}

const char *opt_string(const options_t *o, opt_id_t id)
{
    base_assert(rows[id].type == OPT_STRING || rows[id].type == OPT_PATH ||
                rows[id].type == OPT_CHOICE);
    return get(o, id)->s;
}
