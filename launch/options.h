/* launch/options.h
 * The command line: one table (options.def), one parser, values by option id.
 *
 * A value comes from the command line, else from the environment twin TRIREME_NAME, else from the
 * default. Parsing is pure but for the environment given to it: no output, no exit. */
#ifndef TRIREME_LAUNCH_OPTIONS_H
#define TRIREME_LAUNCH_OPTIONS_H

#include "base/limits.h"
#include "base/status.h"

enum { /* commands, as bits */
       CMD_RUN      = 1u << 0,
       CMD_EVAL     = 1u << 1,
       CMD_TOKENIZE = 1u << 2,
       CMD_INSPECT  = 1u << 3,
       CMD_BENCH    = 1u << 4,
       CMD_SYNTH    = 1u << 5,
       CMD_PLAN     = 1u << 6,
       CMD_CONVERT  = 1u << 7,
       CMD_VERIFY   = 1u << 8,
       CMD_DOCTOR   = 1u << 9,
       CMD_ALL      = (1u << 10) - 1
};

#define OPT_SHAPES                                                                                 \
    "bitnet-2b-4t|bitnet-3b|falcon3-10b|llama3-8b|llama-13b|llama-70b|bitnet-100b|llama3-405b|"    \
    "tiny-gqa5|tiny-mha|tiny-mqa|tiny-kv3|tiny-hd96"
#define OPT_TYPES       "tq1_0|tq2_0|f16|bf16|f32"
#define OPT_EMBED_TYPES "f16|bf16|f32|q8_0|q6_k"
#define OPT_CHAT_TEMPLATES                                                                         \
    "bitnet|bitnet-gguf|llama3|llama3.1|llama2|chatml|smollm2|qwen2.5|falcon3|zephyr|gemma|phi3|"  \
    "deepseek3|mistral-v1|mistral-v3|mistral-v3-tekken|mistral-v7|mistral-v7-tekken"

typedef enum {
#define OPT(id, ...) OPT_##id,
#include "launch/options.def"
#undef OPT
    OPT_ID_COUNT
} opt_id_t;

typedef enum {
    OPT_FLAG,    /* no value; true */
    OPT_INT,     /* 12 */
    OPT_COUNT,   /* 12, 4k, 4K: an integer with a suffix */
    OPT_SIZE,    /* 24G: the same, of bytes */
    OPT_FLOAT,   /* 0.5 */
    OPT_STRING,  /* anything */
    OPT_PATH,    /* anything but the name of an option */
    OPT_CHOICE,  /* one of a few words */
    OPT_INTS,    /* 1,2,3 or 8-64*2 or 8-64+8; more occurrences append */
    OPT_STRINGS, /* one for each occurrence */
} opt_type_t;

typedef enum {
    GROUP_MODEL,
    GROUP_TEXT,
    GROUP_CHAT,
    GROUP_SAMPLING,
    GROUP_EVAL,
    GROUP_BENCH,
    GROUP_CLUSTER,
    GROUP_RANKS,
    GROUP_GENERAL,
    GROUP_COUNT
} opt_group_t;

typedef struct {
    const char *spellings; /* "-m --model" */
    opt_type_t  type;
    const char *metavar;
    const char *def;
    double      min, max;
    const char *choices; /* "auto|t2|t3" */
    uint32_t    commands;
    opt_group_t group;
    const char *help;
} opt_row_t;

const opt_row_t *opt_row(opt_id_t id);
const char      *opt_group_title(opt_group_t group);
/* The first long spelling ("--ctx-size"), or the first of all ("-pg"), into buf. */
const char *opt_name(opt_id_t id, char *buf, size_t buf_bytes);
/* The next word of a list parted by `sep` into buf: moves *at behind it; false at the end. */
bool opt_next_word(const char **at, char sep, char *buf, size_t buf_bytes);
/* "auto, t2, t3" into buf; the option has choices. */
const char *opt_choices_text(opt_id_t id, char *buf, size_t buf_bytes);
/* "TRIREME_CTX_SIZE" into buf; NULL for options without a twin (--help, --version, --man, -pg). */
const char *opt_env_name(opt_id_t id, char *buf, size_t buf_bytes);

typedef enum { OPT_FROM_NOWHERE, OPT_FROM_DEFAULT, OPT_FROM_ENV, OPT_FROM_LINE } opt_origin_t;

typedef struct {
    opt_origin_t origin;
    int64_t      i;       /* FLAG (0, 1), INT, COUNT, SIZE */
    double       f;       /* FLOAT */
    const char  *s;       /* STRING, PATH, CHOICE: of argv, environment or table; not owned */
    uint32_t     n;       /* entries of the lists */
    int64_t     *ints;    /* owned */
    const char **strings; /* owned array of unowned texts */
} opt_value_t;

typedef struct {
    uint32_t    command; /* one CMD_* bit */
    opt_value_t v[OPT_ID_COUNT];
} options_t;

/* Parse the arguments after the command's name. environ may be NULL. On success the values of all
 * options that the command takes are set; the others stay OPT_FROM_NOWHERE. With --help, --version
 * or --man on the line the environment is not read and later mistakes are not looked for.
 * Status: OK | USAGE (option or variable, value, allowed range, nearest spelling) | MEMORY.
 * `options` must be freed (options_free) whatever the status. Local. */
base_status_t options_parse(uint32_t command, int argc, const char *const *argv,
                            char *const *environ, options_t *options, base_err_t *err);
void          options_free(options_t *options);

/* Values. The option must belong to the command: anything else is a bug. */
bool        opt_given(const options_t *o, opt_id_t id); /* on the line or in the environment */
bool        opt_flag(const options_t *o, opt_id_t id);
int64_t     opt_int(const options_t *o, opt_id_t id);
uint32_t    opt_u32(const options_t *o, opt_id_t id); /* negative values give 0 */
double      opt_float(const options_t *o, opt_id_t id);
const char *opt_string(const options_t *o, opt_id_t id); /* NULL when there is none */

/* The entry of `names` (n of them) nearest to `word`, NULL when none is near enough to be meant. */
const char *opt_nearest(const char *word, const char *const *names, size_t n);

#endif
