/* Fuzzing chat templates: any program is recognised or refused, any conversation is rendered or
 * refused, and a conversation that grows gives the text of the whole.
 *
 * Bytes: which template (or none: the program decides), then parts that end in NUL: the program,
 * and messages, the first byte of which is their role. As a test (no libFuzzer) it puts together
 * TRIREME_FUZZ_ROUNDS of them from pieces that matter, from TRIREME_FUZZ_SEED on. With libFuzzer:
 *   clang -g -O1 -std=c11 -D_GNU_SOURCE -DTRIREME_LIBFUZZER -fsanitize=fuzzer,address,undefined \
 *       -I . tests/fuzz/chat.c coordinator/chat.c coordinator/utf8.c base/[a-z]*.c -lm -o fuzz */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGES = 12 };

static void expect(bool good, const char *what, const base_err_t *err)
{
    if (good) return;
    (void)fprintf(stderr, "%s (%s)\n", what, err->text);
    abort();
}

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
        expect(coord_chat_render(chat, v, m, n, i + 1, true, &then, &b, &err) == BASE_OK,
               "the rest is refused", &err);
        /* where an answer before it opens anew (two answers in a row), the beginnings differ */
        if (m[i - 1].role != COORD_ROLE_ASSISTANT)
            expect(a + b <= whole_bytes && memcmp(whole, first, a) == 0, "the beginning", &err);
        expect(memcmp(whole + whole_bytes - b, then, b) == 0, "the end", &err);
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
        expect(st == BASE_ERR_UNSUPPORTED && strstr(err.text, "llama3") != NULL, "find", &err);
        return 0;
    }
    st = coord_chat_render(chat, &v, m, n, 0, true, &text, &bytes, &err);
    if (st == BASE_OK) {
        expect(strlen(text) == bytes, "length", &err);
        grow(chat, &v, m, n, text, bytes);
    } else {
        expect(st == BASE_ERR_USAGE && err.text[0] != '\0', "render", &err);
    }
    free(text);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

static uint64_t random_u64(uint64_t *state) /* SplitMix64 */
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x          = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x          = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 0);
}

int main(void)
{
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
    const uint64_t rounds = number("TRIREME_FUZZ_ROUNDS", 100000);
    const uint64_t seed   = number("TRIREME_FUZZ_SEED", 1);

    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t state = seed + i;
        char     buf[1024];
        size_t   n     = 1;
        uint8_t *exact = NULL;

        buf[0] = (char)(random_u64(&state) % 24);
        for (uint64_t parts = random_u64(&state) % 10; parts > 0; parts--) {
            buf[n++] = (char)(1 + random_u64(&state) % 3); /* the role */
            for (uint64_t k = random_u64(&state) % 5; k > 0; k--) {
                const char *piece =
                    pieces[random_u64(&state) % (sizeof(pieces) / sizeof(pieces[0]))];
                size_t bytes = strlen(piece);

                if (n + bytes + 2 > sizeof(buf)) break;
                memcpy(buf + n, piece, bytes);
                n += bytes;
            }
            if (n + 40 > sizeof(buf)) break;
            buf[n++] = '\0';
        }
        exact = malloc(n); /* for sanitizers */
        if (exact == NULL) abort();
        memcpy(exact, buf, n);
        (void)LLVMFuzzerTestOneInput(exact, n);
        free(exact);
    }
    (void)printf("%" PRIu64 " rounds from seed %" PRIu64 "\n", rounds, seed);
    return 0;
}

#endif
