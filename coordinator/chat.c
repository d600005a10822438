/* coordinator/chat.c: one row per template; recognition by what stands in the Jinja program. */
#include "coordinator/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"
#include "coordinator/utf8.h"

/* In the strings of a row: */
#define BOS "\x01"
#define EOS "\x02"
enum { BOS_MARK = 1, EOS_MARK = 2, ROLES = 3 };

/* With U+FF5C for bars and U+2581 for spaces. */
#define BAR "\xEF\xBD\x9C"
/* What these programs put where a conversation has no system message. */
#define SMOLLM2_SYSTEM     "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
#define QWEN25_SYSTEM      "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
#define DEEPSEEK_USER      "<" BAR "User" BAR ">"
#define DEEPSEEK_ASSISTANT "<" BAR "Assistant" BAR ">"
#define DEEPSEEK_END       "<" BAR "end\xE2\x96\x81of\xE2\x96\x81sentence" BAR ">"

enum {
    CHAT_BOS         = 1,  /* begins with BOS */
    CHAT_TRIM        = 2,  /* white space around a message is dropped */
    CHAT_TRIM_ANSWER = 4,  /* the same, of answers only */
    CHAT_FOLD        = 8,  /* the system message goes into the first user message */
    CHAT_STRICT      = 16, /* roles alternate from user on */
    CHAT_LAST_BARE   = 32, /* the last message, if an answer, goes without its last byte */
    CHAT_TRIM_APART  = 64, /* a message is trimmed before the system message goes into it */
    CHAT_CLOSE_EOS   = 128 /* EOS behind all where no answer is opened; no empty system message */
};

struct coord_chat_template {
    const char *name;
    unsigned    flags;
    const char *before[ROLES], *after[ROLES]; /* of a message, by role */
    const char *answer;                       /* opens an answer */
    const char *system;                       /* the message where there is none, NULL: none */
};

static const coord_chat_template_t rows[] = {
    {"bitnet",
     CHAT_BOS | CHAT_TRIM,
     {"System: ", "User: ", "Assistant: "},
     {"<|eot_id|>", "<|eot_id|>", "<|eot_id|>"},
     "Assistant: ",
     NULL},
    {"bitnet-gguf",
     CHAT_BOS | CHAT_FOLD,
     {"", "Human: ", ""},
     {"\n\n", "\n\nBITNETAssistant: " EOS, EOS},
     "",
     NULL},
    {"llama3",
     CHAT_BOS | CHAT_TRIM,
     {"<|start_header_id|>system<|end_header_id|>\n\n",
      "<|start_header_id|>user<|end_header_id|>\n\n",
      "<|start_header_id|>assistant<|end_header_id|>\n\n"},
     {"<|eot_id|>", "<|eot_id|>", "<|eot_id|>"},
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     NULL},
    {"llama3.1",
     CHAT_BOS | CHAT_TRIM,
     {"<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
      "Today Date: 26 Jul 2024\n\n",
      "<|start_header_id|>user<|end_header_id|>\n\n",
      "<|start_header_id|>assistant<|end_header_id|>\n\n"},
     {"<|eot_id|>", "<|eot_id|>", "<|eot_id|>"},
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     ""},
    {"llama2",
     CHAT_BOS | CHAT_TRIM | CHAT_FOLD | CHAT_STRICT,
     {"<<SYS>>\n", BOS "[INST] ", " "},
     {"\n<</SYS>>\n\n", " [/INST]", " " EOS},
     "",
     NULL},
    {"chatml",
     0,
     {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"},
     {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"},
     "<|im_start|>assistant\n",
     NULL},
    {"smollm2",
     0,
     {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"},
     {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"},
     "<|im_start|>assistant\n",
     SMOLLM2_SYSTEM},
    {"qwen2.5",
     0,
     {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"},
     {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"},
     "<|im_start|>assistant\n",
     QWEN25_SYSTEM},
    {"falcon3",
     CHAT_LAST_BARE,
     {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"},
     {"\n", "\n", EOS "\n"},
     "<|assistant|>\n",
     NULL},
    {"zephyr",
     0,
     {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"},
     {EOS "\n", EOS "\n", EOS "\n"},
     "<|assistant|>\n",
     NULL},
    {"gemma",
     CHAT_BOS | CHAT_TRIM | CHAT_TRIM_APART | CHAT_FOLD | CHAT_STRICT,
     {"", "<start_of_turn>user\n", "<start_of_turn>model\n"},
     {"\n\n", "<end_of_turn>\n", "<end_of_turn>\n"},
     "<start_of_turn>model\n",
     NULL},
    {"phi3",
     CHAT_CLOSE_EOS,
     {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"},
     {"<|end|>\n", "<|end|>\n", "<|end|>\n"},
     "<|assistant|>\n",
     NULL},
    {"deepseek3",
     CHAT_BOS,
     {"", DEEPSEEK_USER, DEEPSEEK_ASSISTANT},
     {"", "", DEEPSEEK_END},
     DEEPSEEK_ASSISTANT,
     NULL},
    {"mistral-v1",
     CHAT_BOS | CHAT_FOLD | CHAT_STRICT,
     {"", " [INST] ", " "},
     {"\n\n", " [/INST]", EOS},
     "",
     NULL},
    {"mistral-v3",
     CHAT_BOS | CHAT_FOLD | CHAT_STRICT | CHAT_TRIM_ANSWER,
     {"", "[INST] ", " "},
     {"\n\n", "[/INST]", EOS},
     "",
     NULL},
    {"mistral-v3-tekken",
     CHAT_BOS | CHAT_FOLD | CHAT_STRICT,
     {"", "[INST]", ""},
     {"\n\n", "[/INST]", EOS},
     "",
     NULL},
    {"mistral-v7",
     CHAT_BOS,
     {"[SYSTEM_PROMPT] ", "[INST] ", " "},
     {"[/SYSTEM_PROMPT]", "[/INST]", EOS},
     "",
     NULL},
    {"mistral-v7-tekken",
     CHAT_BOS,
     {"[SYSTEM_PROMPT]", "[INST]", ""},
     {"[/SYSTEM_PROMPT]", "[/INST]", EOS},
     "",
     NULL},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

/* ---- recognition --------------------------------------------------------------------------- */

static bool has(model_str_t jinja, const char *words)
{
    return jinja.bytes > 0 && memmem(jinja.text, jinja.bytes, words, strlen(words)) != NULL;
}

/* What a program adds to the content of a user's message, behind "<|user|>": the expression up to
 * its end, without spaces, quotes and line breaks, also those written "\n". Into buf,
 * NUL-terminated. */
static void user_expression(model_str_t jinja, char *buf, size_t buf_bytes)
{
    const char *mark = "<|user|>";
    const char *at   = jinja.bytes > 0 ? memmem(jinja.text, jinja.bytes, mark, strlen(mark)) : NULL;
    const char *end  = jinja.text + jinja.bytes;
    size_t      n    = 0;

    for (at = at != NULL ? at + strlen(mark) : end; at < end && n + 1 < buf_bytes; at++) {
        if (*at == '}') break;
        if (*at == '\\' && at + 1 < end && at[1] == 'n') {
            at++;
            continue;
        }
        if (strchr(" \n\r\t'\"", *at) == NULL) buf[n++] = *at;
    }
    buf[n] = '\0';
}

static const char *recognise_user_assistant(model_str_t jinja)
{
    char expression[128];

    user_expression(jinja, expression, sizeof expression);
    if (strstr(expression, "content") == NULL) return NULL;
    if (strstr(expression, "eos_token") != NULL || strstr(expression, "<|endoftext|>") != NULL ||
        strstr(expression, "</s>") != NULL)
        return "zephyr";
    if (strcmp(expression, "+message[content]+<|end|>") == 0 && has(jinja, "<|system|>") &&
        has(jinja, "add_generation_prompt") && !has(jinja, "tools"))
        return "phi3";
    if (!has(jinja, "eos_token") || has(jinja, "<|end|>") || has(jinja, "[gMASK]")) return NULL;
    return has(jinja, "bos_token") || has(jinja, "think") ? NULL : "falcon3"; /* OLMo 2: BOS */
}

static const char *recognise_inst(model_str_t jinja)
{
    if (has(jinja, "default_system_message")) return NULL;
    if (has(jinja, "[SYSTEM_PROMPT]"))
        return has(jinja, "[SYSTEM_PROMPT] ") ? "mistral-v7" : "mistral-v7-tekken";
    if (has(jinja, "' [INST] ' + system_message") || has(jinja, "[AVAILABLE_TOOLS]")) {
        if (has(jinja, " [INST]")) return "mistral-v1";
        return has(jinja, "\"[INST]\"") ? "mistral-v3-tekken" : "mistral-v3";
    }
    return has(jinja, "<<SYS>>\\n' + system_message") && !has(jinja, "system_message = '") &&
                   has(jinja, "bos_token + '[INST] ' + content.strip() + ' [/INST]'")
               ? "llama2"
               : NULL;
}

/* Does the program do more than put the messages between marks? Then a row would be a guess. */
static bool does_more(model_str_t jinja)
{
    static const char *const marks[] = {"tools",     "think",    "You are", "default_system",
                                        "functions", "strftime", "Date"};

    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (has(jinja, marks[i])) return true;
    return false;
}

static const char *recognise_chatml(model_str_t jinja)
{
    if (has(jinja, "<|im_sep|>") || has(jinja, "<end_of_utterance>") || has(jinja, "think"))
        return NULL;
    if (has(jinja, "'<|im_start|>system\\nYou are Qwen") && has(jinja, QWEN25_SYSTEM "<|im_end|>"))
        return "qwen2.5";
    if (has(jinja, SMOLLM2_SYSTEM "<|im_end|>") && !has(jinja, "tools")) return "smollm2";
    if (has(jinja, "bos_token") || has(jinja, "trim") || has(jinja, "strip(")) return NULL;
    return does_more(jinja) ? NULL : "chatml";
}

/* The first form, or that of 3.1 and 3.3 with its dates. (3.2 asks for the day.) */
static const char *recognise_llama3(model_str_t jinja)
{
    if (has(jinja, "strftime")) return NULL;
    if (has(jinja, "\"26 Jul 2024\"") && has(jinja, "Cutting Knowledge Date: December 2023"))
        return "llama3.1";
    return does_more(jinja) ? NULL : "llama3";
}

/* Gemma 1 to 3: no roles but two, messages trimmed. */
static const char *recognise_gemma(model_str_t jinja)
{
    bool known = has(jinja, "'<start_of_turn>' + role + '") && has(jinja, "role = 'model'");

    known = known || (has(jinja, "'<start_of_turn>' + role + '") && has(jinja, "role = \"model\""));
    return known && has(jinja, "['content'] | trim") && !has(jinja, "tools") ? "gemma" : NULL;
}

/* The marks are those that llama.cpp looks for, and those of the BitNet files. */
static const char *recognise(model_str_t jinja, const char *arch)
{
    bool b158 = strcmp(arch, "bitnet-b1.58") == 0 || strcmp(arch, "bitnet-25") == 0;

    if (jinja.bytes == 0) return b158 ? "bitnet" : NULL;
    if (has(jinja, "BITNETAssistant")) return b158 ? "bitnet" : "bitnet-gguf";
    if (has(jinja, "<|im_start|>")) return recognise_chatml(jinja);
    if (has(jinja, "[INST]")) return recognise_inst(jinja);
    if (has(jinja, "<|user|>") && has(jinja, "<|assistant|>"))
        return recognise_user_assistant(jinja);
    if (has(jinja, "<start_of_turn>") && has(jinja, "<end_of_turn>")) return recognise_gemma(jinja);
    if (has(jinja, DEEPSEEK_USER) && has(jinja, "{{'" DEEPSEEK_ASSISTANT "'}}"))
        return has(jinja, "think") ? NULL : "deepseek3"; /* R1, V3.1 and later */
    if (has(jinja, "<|start_header_id|>") && has(jinja, "<|end_header_id|>"))
        return recognise_llama3(jinja);
    if (has(jinja, "capitalize") && has(jinja, "<|eot_id|>") && has(jinja, "Assistant: "))
        return "bitnet";
    return NULL;
}

static const char *names_text(char *buf, size_t buf_bytes)
{
    size_t n = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < ROWS && n < buf_bytes; i++)
        n += (size_t)snprintf(buf + n, buf_bytes - n, "%s%s", i > 0 ? ", " : "", rows[i].name);
    return buf;
}

base_status_t coord_chat_find(const char *name, model_str_t jinja, const char *arch,
                              const coord_chat_template_t **out, base_err_t *err)
{
    const char *wanted = name;
    char        names[256];

    base_assert(arch != NULL && out != NULL);
    if (wanted == NULL) wanted = recognise(jinja, arch);
    for (size_t i = 0; i < ROWS && wanted != NULL; i++)
        if (strcmp(rows[i].name, wanted) == 0) {
            *out = &rows[i];
            return BASE_OK;
        }
    (void)names_text(names, sizeof names);
    if (name != NULL)
        return base_fail(err, BASE_ERR_USAGE, "no chat template is called '%.64s'; there are: %s",
                         name, names);
    return base_fail(
        err, BASE_ERR_UNSUPPORTED, "the model %s; give --chat-template NAME, one of: %s",
        jinja.bytes > 0 ? "has a chat template that is not known here" : "has no chat template",
        names);
}

const char *coord_chat_name(const coord_chat_template_t *chat)
{
    return chat->name;
}

const char *coord_chat_name_at(size_t i)
{
    return i < ROWS ? rows[i].name : NULL;
}

bool coord_chat_bos(const coord_chat_template_t *chat)
{
    return (chat->flags & CHAT_BOS) != 0;
}

/* ---- rendering ----------------------------------------------------------------------------- */

/* First counted (buf NULL), then written. */
typedef struct {
    const model_vocab_t *vocab;
    char                *buf;
    size_t               n;
    bool                 skip_bos; /* nothing but BOS so far: it is the tokenizer's */
} writer_t;

static void put(writer_t *w, const char *text, size_t bytes)
{
    if (w->buf != NULL && bytes > 0) memcpy(w->buf + w->n, text, bytes);
    w->n += bytes;
    if (bytes > 0) w->skip_bos = false;
}

static void put_token(writer_t *w, int32_t id)
{
    if (id >= 0 && (uint32_t)id < w->vocab->n_tokens)
        put(w, w->vocab->tokens[id].text, w->vocab->tokens[id].bytes);
}

static void put_markup(writer_t *w, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == EOS_MARK)
            put_token(w, w->vocab->eos);
        else if (*text != BOS_MARK)
            put(w, text, 1);
        else if (!w->skip_bos)
            put_token(w, w->vocab->bos);
    }
}

/* White space as Python's str.strip sees it. */
static bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

static void trim(const char **text, size_t *bytes, bool left)
{
    const char *t    = *text;
    size_t      from = 0, to = 0;

    for (size_t at = 0; at < *bytes;) {
        unsigned n     = coord_utf8_length(t + at, *bytes - at);
        bool     space = n > 0 && is_space(coord_utf8_code(t + at, n));

        if (n == 0) n = 1;
        if (space && to == 0 && left) from = at + n;
        if (!space) to = at + n;
        at += n;
    }
    *text  = t + from;
    *bytes = to > from ? to - from : 0;
}

/* The text of one message, its role's markup around it. `folded`: the system message that goes
 * before it, NULL: none. */
static void put_message(writer_t *w, const coord_chat_template_t *c, const coord_message_t *m,
                        const coord_message_t *folded)
{
    const char *text   = m->text;
    size_t      bytes  = m->bytes;
    bool        answer = m->role == COORD_ROLE_ASSISTANT;
    bool        apart  = (c->flags & CHAT_TRIM_APART) != 0;

    if ((c->flags & CHAT_TRIM) != 0 || (answer && (c->flags & CHAT_TRIM_ANSWER) != 0))
        trim(&text, &bytes, folded == NULL || apart);
    put_markup(w, c->before[m->role]);
    if (folded != NULL) {
        put_markup(w, c->before[COORD_ROLE_SYSTEM]);
        put(w, folded->text, folded->bytes);
        if (bytes > 0 || (c->flags & CHAT_TRIM) == 0 || apart)
            put_markup(w, c->after[COORD_ROLE_SYSTEM]);
        else
            put(w, "\n<</SYS>>", 9); /* llama2: the line breaks are trimmed too */
    }
    put(w, text, bytes);
    put_markup(w, c->after[m->role]);
}

static void put_all(writer_t *w, const coord_chat_template_t *c, const coord_message_t *messages,
                    size_t n, size_t n_done, bool open_answer)
{
    bool   fold = (c->flags & CHAT_FOLD) != 0;
    size_t i    = n_done;

    w->skip_bos = n_done == 0;
    if (n_done > 0) put_markup(w, c->after[COORD_ROLE_ASSISTANT]);
    if (n_done == 0 && c->system != NULL && messages[0].role != COORD_ROLE_SYSTEM) {
        const coord_message_t standard = {COORD_ROLE_SYSTEM, c->system, strlen(c->system)};

        put_message(w, c, &standard, NULL);
    }
    for (; i < n; i++) {
        const coord_message_t *before =
            i == 1 && fold && messages[0].role == COORD_ROLE_SYSTEM ? &messages[0] : NULL;

        if (messages[i].role == COORD_ROLE_SYSTEM &&
            (fold || ((c->flags & CHAT_CLOSE_EOS) != 0 && messages[i].bytes == 0)))
            continue;
        put_message(w, c, &messages[i], before);
    }
    if ((c->flags & CHAT_LAST_BARE) != 0 && messages[n - 1].role == COORD_ROLE_ASSISTANT) w->n--;
    if (open_answer)
        put_markup(w, c->answer);
    else if ((c->flags & CHAT_CLOSE_EOS) != 0)
        put_markup(w, EOS);
}

static base_status_t check_order(const coord_chat_template_t *c, const coord_message_t *messages,
                                 size_t n, base_err_t *err)
{
    bool system = n > 0 && messages[0].role == COORD_ROLE_SYSTEM;

    if (n == 0 || (n == 1 && system && (c->flags & CHAT_FOLD) != 0))
        return base_fail(err, BASE_ERR_USAGE, "a conversation needs a message of the user");
    for (size_t i = system ? 1 : 0; i < n; i++) {
        bool user = (i - (system ? 1 : 0)) % 2 == 0;

        if (messages[i].role == COORD_ROLE_SYSTEM)
            return base_fail(err, BASE_ERR_USAGE,
                             "message %zu is a system message: it can only be the first", i + 1);
        if ((c->flags & CHAT_STRICT) != 0 && user != (messages[i].role == COORD_ROLE_USER))
            return base_fail(err, BASE_ERR_USAGE,
                             "message %zu: with template %s, user and assistant take turns", i + 1,
                             c->name);
    }
    return BASE_OK;
}

base_status_t coord_chat_render(const coord_chat_template_t *chat, const model_vocab_t *vocab,
                                const coord_message_t *messages, size_t n_messages, size_t n_done,
                                bool open_answer, char **text, size_t *bytes, base_err_t *err)
{
    writer_t      w     = {.vocab = vocab};
    void         *room  = NULL;
    size_t        total = 0;
    base_status_t st    = BASE_OK;

    base_assert(chat != NULL && vocab != NULL && text != NULL && bytes != NULL);
    base_assert(n_done <= n_messages);
    base_assert(n_done == 0 || messages[n_done - 1].role == COORD_ROLE_ASSISTANT);
    st = check_order(chat, messages, n_messages, err);
    for (size_t i = n_done; i < n_messages && st == BASE_OK; i++) {
        if (messages[i].bytes > LIMIT_TEXT_BYTES - total)
            st = base_fail(err, BASE_ERR_LIMIT, "a conversation of more than %d bytes",
                           LIMIT_TEXT_BYTES);
        else
            total += messages[i].bytes;
    }
    if (st != BASE_OK) return st;
    put_all(&w, chat, messages, n_messages, n_done, open_answer);
    st =
        base_alloc(&room, w.n + 2, 1, "conversation", err); /* a bare last answer writes one more */
    if (st != BASE_OK) return st;
    w.buf = room;
    w.n   = 0;
    put_all(&w, chat, messages, n_messages, n_done, open_answer);
    w.buf[w.n] = '\0';
    *text      = w.buf;
    *bytes     = w.n;
    return BASE_OK;
}
