/* Fuzzing chat templates: any program is recognised or refused, any conversation is rendered or
 * refused, and a conversation that grows gives the text of the whole.
 *
 * Bytes: which template (or none: the program decides), then parts that end in NUL: the program,
 * and messages, the first byte of which is their role. Built and run as fuzz.h says. */
#include "coordinator/chat.h"
#include "tests/fuzz/fuzz.h"

enum { MESSAGES = 12 };

/* The first n messages, then the rest: together they are the whole, but for the answer between. */
static void grow(const coord_chat_template_t *chat, const model_vocab_t *v,
                 const coord_message_t *m, size_t n, const char *whole, size_t whole_bytes)
{
    for (size_t i = 1; i + 1 < n; i++) {
        char      *first = NULL, *then = NULL;
        size_t     a = 0, b = 0;
        base_err_t err = {0};

        if (m[i].role != COORD_ROLE_ASSISTANT) continue;
        if (coord_chat_render(chat, v, m, i, 0, true, &first, &a, &err) != BASE_OK) continue;
        fuzz_expect(coord_chat_render(chat, v, m, n, i + 1, true, &then, &b, &err) == BASE_OK,
                    "the rest is refused", &err);
        /* where an answer before it opens anew (two answers in a row), the beginnings differ */
        if (m[i - 1].role != COORD_ROLE_ASSISTANT)
            fuzz_expect(a + b <= whole_bytes && memcmp(whole, first, a) == 0, "the beginning",
                        &err);
        fuzz_expect(memcmp(whole + whole_bytes - b, then, b) == 0, "the end", &err);
        free(first);
        free(then);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static model_str_t           tokens[] = {{"<s>", 3}, {"</s>", 4}};
    const model_vocab_t          v        = {.n_tokens = 2, .tokens = tokens, .bos = 0, .eos = 1};
    const coord_chat_template_t *chat     = NULL;
    coord_message_t              m[MESSAGES];
    model_str_t                  jinja = {0};
    size_t                       n = 0, bytes = 0;
    char                        *text = NULL;
    base_err_t                   err  = {0};
    base_status_t                st;

    if (size == 0) return 0;
    for (size_t at = 1, part = 0; at < size && n < MESSAGES; part++) {
        const char *p      = (const char *)data + at;
        size_t      length = strnlen(p, size - at);

        at += length + 1;
        if (part == 0) {
            jinja = (model_str_t){.text = p, .bytes = (uint32_t)length};
        } else if (length > 0) {
            m[n++] = (coord_message_t){(coord_role_t)((unsigned char)p[0] % 3), p + 1, length - 1};
        }
    }
    st = coord_chat_find(coord_chat_name_at(data[0]), jinja, data[0] % 2 ? "bitnet-b1.58" : "llama",
                         &chat, &err);
    if (st != BASE_OK) {
        fuzz_expect(st == BASE_ERR_UNSUPPORTED && strstr(err.text, "llama3") != NULL, "find", &err);
        return 0;
    }
    st = coord_chat_render(chat, &v, m, n, 0, true, &text, &bytes, &err);
    if (st == BASE_OK) {
        fuzz_expect(strlen(text) == bytes, "length", &err);
        grow(chat, &v, m, n, text, bytes);
    } else {
        fuzz_expect(st == BASE_ERR_USAGE && err.text[0] != '\0', "render", &err);
    }
    free(text);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

static const char *const pieces[] = {
    "<|user|>",
    "<|assistant|>",
    "<|im_start|>",
    "<|im_sep|>",
    "[INST]",
    " [INST]",
    "\"[INST]\"",
    "[SYSTEM_PROMPT]",
    "<<SYS>>",
    "eos_token",
    "\\n'",
    " + message['content'] + ",
    "}}",
    "{{ '",
    "</s>",
    "capitalize",
    "<|eot_id|>",
    "Assistant: ",
    "BITNETAssistant",
    "[gMASK]",
    " ",
    "\n",
    "\t \n",
    "\xE3\x80\x80",
    "\xC2\xA0",
    "\xFF",
    "\xE3\x80",
    "x",
    "Hello there",
    "[AVAILABLE_TOOLS]",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "content",
    "'<|user|>\\n' + message['content']",
};

/* A template's number, a program, and messages out of pieces. */
static fuzz_bytes_t compose(uint64_t *state)
{
    fuzz_bytes_t  b    = {0};
    const uint8_t name = (uint8_t)(fuzz_random(state) % 24);
    fuzz_splice(&b, 0, 0, &name, 1);
    for (uint64_t parts = fuzz_random(state) % 10; parts > 0; parts--) {
        const uint8_t role = (uint8_t)(1 + fuzz_random(state) % 3);
        fuzz_splice(&b, b.n, 0, &role, 1);
        for (uint64_t k = fuzz_random(state) % 5; k > 0; k--) {
            const char *piece = pieces[fuzz_random(state) % (sizeof(pieces) / sizeof(pieces[0]))];
            fuzz_splice(&b, b.n, 0, piece, strlen(piece));
        }
        fuzz_splice(&b, b.n, 0, "", 1);
    }
    return b;
}

static void mutate(fuzz_bytes_t *b, uint64_t *state)
{
    const uint64_t pick  = fuzz_random(state);
    const char    *piece = pieces[(pick >> 8) % (sizeof(pieces) / sizeof(pieces[0]))];
    if (pick % 2 == 0)
        fuzz_mutate_bytes(b, state);
    else
        fuzz_splice(b, b->n == 0 ? 0 : fuzz_random(state) % b->n, 0, piece, strlen(piece));
}

int main(int argc, char **argv)
{
    enum { SEEDS = 200 };
    fuzz_bytes_t seeds[SEEDS];
    uint64_t     state = 1;
    for (int i = 0; i < SEEDS; i++) seeds[i] = compose(&state);
    const int rc = fuzz_main(argc, argv, seeds, SEEDS, mutate, 200000);
    for (int i = 0; i < SEEDS; i++) free(seeds[i].data);
    return rc;
}

#endif
