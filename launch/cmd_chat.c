/* launch/cmd_chat.c: `run` as a chat in the terminal.
 *
 * The engine keeps the KV cache from turn to turn: what a turn adds to the text (the end of the
 * answer before it, the new message, the opening of the next answer) is all that is run. A token
 * that ended an answer was chosen but never run; the template's own end takes its place.
 *
 * Messages come from the standard input, also under mpirun, which hands it to rank 0 (there it is
 * no terminal, so no mark shows that a message is awaited). Ctrl-C stops the answer in a process of
 * its own; under mpirun the launcher turns it into the end of all ranks. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "comm/comm.h"
#include "launch/output.h"
#include "launch/run.h"
#include "launch/session.h"

enum { INPUT_BYTES = 4096, MESSAGE_MAX = 4 << 20 };

typedef struct {
    run_t             *run;
    coord_tokenizer_t *tokenizer;
    const char        *mark; /* shown before a message is typed */

    coord_message_t *messages; /* texts owned */
    size_t           n_messages, messages_room;
    size_t           n_done; /* messages that are part of ids */
    int32_t         *ids;    /* the whole sequence */
    size_t           n_ids, ids_room;
    uint64_t         n_held; /* positions the engine holds */

    char   input[INPUT_BYTES];
    size_t input_at, input_n;
    bool   input_ended;

    coord_generate_result_t sum; /* figures of all turns, no texts */
} chat_t;

/* ---- lists --------------------------------------------------------------------------------- */

/* Room for `more` items behind n; *items is replaced on success. */
static base_status_t reserve(void **items, size_t *room, size_t n, size_t more, size_t item_bytes,
                             base_err_t *err)
{
    size_t want = *room > 0 ? *room : 256;
    void  *grown;

    if (*items != NULL && n + more <= *room) return BASE_OK;
    while (want < n + more) want *= 2;
    grown = realloc(*items, want * item_bytes); /* far below SIZE_MAX: texts have limits */
    if (grown == NULL) return base_fail(err, BASE_ERR_MEMORY, "no memory for the conversation");
    *items = grown;
    *room  = want;
    return BASE_OK;
}

static base_status_t add_message(chat_t *c, coord_role_t role, const char *text, size_t bytes,
                                 base_err_t *err)
{
    void         *items = c->messages;
    char         *copy  = NULL;
    base_status_t st =
        reserve(&items, &c->messages_room, c->n_messages, 1, sizeof(*c->messages), err);

    c->messages = items;
    if (st != BASE_OK) return st;
    copy = malloc(bytes + 1);
    if (copy == NULL) return base_fail(err, BASE_ERR_MEMORY, "no memory for the conversation");
    if (bytes > 0) memcpy(copy, text, bytes);
    copy[bytes]                  = '\0';
    c->messages[c->n_messages++] = (coord_message_t){role, copy, bytes};
    return BASE_OK;
}

static base_status_t add_ids(chat_t *c, const int32_t *ids, size_t n, base_err_t *err)
{
    void         *items = c->ids;
    base_status_t st    = reserve(&items, &c->ids_room, c->n_ids, n, sizeof(*c->ids), err);

    c->ids = items;
    if (st != BASE_OK) return st;
    if (n > 0) memcpy(c->ids + c->n_ids, ids, n * sizeof(*ids));
    c->n_ids += n;
    return BASE_OK;
}

/* ---- the user ------------------------------------------------------------------------------ */

/* The next byte of the standard input, -1 at its end or when a signal wants us to stop. */
static int next_byte(chat_t *c)
{
    while (c->input_at == c->input_n && !c->input_ended) {
        ssize_t n = comm_interrupted() ? 0 : read(STDIN_FILENO, c->input, sizeof(c->input));

        if (n < 0 && errno == EINTR) continue;
        c->input_ended = n <= 0;
        c->input_at    = 0;
        c->input_n     = n > 0 ? (size_t)n : 0;
    }
    return c->input_at < c->input_n ? (unsigned char)c->input[c->input_at++] : -1;
}

/* A message: a line, or several of which all but the last end in a backslash. *text is malloc'd,
 * NULL at the end of the input. */
static base_status_t read_message(chat_t *c, char **text, size_t *bytes, base_err_t *err)
{
    void         *buf  = NULL;
    size_t        room = 0, n = 0;
    int           byte = 0;
    base_status_t st   = BASE_OK;

    if (c->mark != NULL) (void)fputs(c->mark, stderr);
    while (st == BASE_OK) {
        byte = next_byte(c);
        if (byte < 0 || (byte == '\n' && !(n > 0 && ((char *)buf)[n - 1] == '\\'))) break;
        if (byte == '\n') n--; /* the backslash */
        if (n == MESSAGE_MAX)
            st = base_fail(err, BASE_ERR_LIMIT, "a message of more than %d bytes", MESSAGE_MAX);
        if (st == BASE_OK) st = reserve(&buf, &room, n, 1, 1, err);
        if (st == BASE_OK) ((char *)buf)[n++] = (char)(unsigned char)byte;
    }
    if (n > 0 && ((char *)buf)[n - 1] == '\r') n--;
    if (st != BASE_OK || (byte < 0 && n == 0)) {
        free(buf);
        buf = NULL;
    } else {
        st = reserve(&buf, &room, n, 1, 1, err); /* never NULL */
    }
    *text  = buf;
    *bytes = n;
    return st;
}

/* The user's next message, that of the options first; empty lines are passed over. *ended: no more.
 */
static base_status_t hear(chat_t *c, bool *ended, base_err_t *err)
{
    base_status_t st    = BASE_OK;
    char         *text  = NULL;
    size_t        bytes = 0;

    if (c->n_ids == 0 && c->run->prompt != NULL)
        return add_message(c, COORD_ROLE_USER, c->run->prompt, c->run->prompt_bytes, err);
    do {
        free(text);
        text = NULL;
        st   = read_message(c, &text, &bytes, err);
    } while (st == BASE_OK && text != NULL && bytes == 0);
    *ended = text == NULL || comm_interrupted();
    if (st == BASE_OK && !*ended) st = add_message(c, COORD_ROLE_USER, text, bytes, err);
    free(text);
    return st;
}

/* ---- the model ----------------------------------------------------------------------------- */

static run_t           *answering; /* for the handler */
static struct sigaction before_answer;

/* The first Ctrl-C stops the answer, a second one is the program's. */
static void on_interrupt(int number)
{
    if (answering->stop == 0) {
        answering->stop = 1;
        return;
    }
    (void)sigaction(SIGINT, &before_answer, NULL);
    (void)raise(number);
}

static void catch_interrupt(run_t *run)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_interrupt;
    answering         = run;
    (void)sigaction(SIGINT, &action, &before_answer);
}

/* The ids that the conversation has and the sequence lacks. */
static base_status_t append_turn(chat_t *c, base_err_t *err)
{
    char         *text  = NULL;
    int32_t      *ids   = NULL;
    size_t        bytes = 0, n = 0;
    base_status_t st =
        coord_chat_render(c->run->chat, &engine_model(c->run->engine)->vocab, c->messages,
                          c->n_messages, c->n_done, true, &text, &bytes, err);

    if (st == BASE_OK)
        st = run_tokenize(c->run, c->tokenizer, text, bytes, c->n_ids == 0, &ids, &n, err);
    if (st == BASE_OK) st = add_ids(c, ids, n, err);
    free(ids);
    free(text);
    return st;
}

static void add_figures(chat_t *c, const coord_generate_result_t *r)
{
    c->sum.n_prompt_steps += r->n_prompt_steps;
    c->sum.prompt_us += r->prompt_us;
    c->sum.n_decode_steps += r->n_decode_steps;
    c->sum.decode_us += r->decode_us;
}

/* Take up the answer: into the conversation, and into the sequence without the id that ended it. */
static base_status_t keep_answer(chat_t *c, const coord_generate_result_t *r, base_err_t *err)
{
    size_t        n  = r->n_ids - (r->stop == COORD_STOP_EOS ? 1 : 0);
    base_status_t st = add_ids(c, r->ids, n, err);

    if (st == BASE_OK) st = add_message(c, COORD_ROLE_ASSISTANT, r->text, r->text_bytes, err);
    c->n_held = r->n_held;
    c->n_done = c->n_messages;
    add_figures(c, r);
    return st;
}

/* *ended: there can be no further turn. */
static base_status_t answer(chat_t *c, bool *ended, base_err_t *err)
{
    run_t                  *run   = c->run;
    uint32_t                n_ctx = engine_n_ctx(run->engine);
    bool                    alone = engine_info(run->engine).n_ranks == 1;
    coord_generate_params_t p;
    coord_generate_result_t r;
    base_status_t           st = append_turn(c, err);

    memset(&r, 0, sizeof(r));
    if (st != BASE_OK) return st;
    if (c->n_held > 0 && c->n_ids > n_ctx) {
        base_log(BASE_LOG_WARN,
                 "the chat ends: with this message it has %zu tokens, the context %u (-c)",
                 c->n_ids, n_ctx);
        *ended = true;
        return BASE_OK;
    }
    st = run_parameters(run, c->tokenizer, c->ids, c->n_ids, &p, err);
    if (st != BASE_OK) return st;
    p.n_cached = c->n_held;
    run->stop  = 0;
    if (alone) catch_interrupt(run);
    st = coord_generate(&p, &r, err);
    if (alone) (void)sigaction(SIGINT, &before_answer, NULL);
    if (st == BASE_OK) st = keep_answer(c, &r, err);
    if (st == BASE_OK && !run->reader_gone && run->write_status == BASE_OK)
        (void)run_show(run, "\n", 1);
    if (st == BASE_OK && r.stop == COORD_STOP_CONTEXT)
        base_log(BASE_LOG_WARN, "the chat ends: its context of %u tokens is full (-c)", n_ctx);
    *ended = r.stop == COORD_STOP_CONTEXT || run->reader_gone || run->write_status != BASE_OK ||
             comm_interrupted() || opt_flag(run->o, OPT_SINGLE_TURN);
    coord_generate_free(&r);
    return st;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void greet(chat_t *c)
{
    const run_t *run   = c->run;
    bool         ranks = engine_info(run->engine).n_ranks > 1;

    if (opt_flag(run->o, OPT_QUIET) || opt_flag(run->o, OPT_SINGLE_TURN)) return;
    base_log(BASE_LOG_INFO,
             "chat, template %s: a line is a message, a backslash at its end goes on with the "
             "next line; Ctrl-D ends the chat, Ctrl-C %s",
             coord_chat_name(run->chat), ranks ? "too" : "an answer");
    if (isatty(STDIN_FILENO)) c->mark = "> "; /* never under mpirun: it hands on through a pipe */
}

static base_status_t finish(chat_t *c, base_err_t *err)
{
    engine_rank_stats_t *stats = NULL;
    base_status_t        st    = BASE_OK;

    if (!comm_interrupted()) st = session_stats(c->run->engine, false, &stats, err);
    if (st == BASE_OK) run_summary(c->run, stats, &c->sum);
    free(stats);
    return st;
}

base_status_t chat_work(run_t *run, base_err_t *err)
{
    chat_t       *c     = calloc(1, sizeof(*c));
    bool          ended = false;
    base_status_t st    = BASE_OK;

    if (c == NULL) return base_fail(err, BASE_ERR_MEMORY, "no memory for the conversation");
    c->run = run;
    st     = coord_tokenizer_create(&engine_model(run->engine)->vocab, &c->tokenizer, err);
    if (st == BASE_OK && run->system != NULL)
        st = add_message(c, COORD_ROLE_SYSTEM, run->system, run->system_bytes, err);
    if (st == BASE_OK) greet(c);
    while (st == BASE_OK && !ended) {
        st = hear(c, &ended, err);
        if (st == BASE_OK && !ended) st = answer(c, &ended, err);
    }
    if (st == BASE_OK) st = finish(c, err);
    for (size_t i = 0; i < c->n_messages; i++) {
        union {
            const char *in;
            void       *out;
        } text = {c->messages[i].text}; /* ours, const only for the template */
        free(text.out);
    }
    free(c->messages);
    free(c->ids);
    coord_tokenizer_destroy(&c->tokenizer);
    free(c);
    return st;
}
