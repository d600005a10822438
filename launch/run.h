/* launch/run.h
 * What the two forms of `run` share: text to go on from (cmd_run.c), and chat (cmd_chat.c). */
#ifndef TRIREME_LAUNCH_RUN_H
#define TRIREME_LAUNCH_RUN_H

#include "coordinator/chat.h"
#include "coordinator/generate.h"
#include "launch/engine.h"
#include "launch/options.h"

typedef struct {
    const options_t             *o;
    const coord_chat_template_t *chat; /* NULL: no chat */
    char         *prompt; /* or the first message of a chat; rank 0; owned, NULL: none */
    size_t        prompt_bytes;
    char         *system; /* owned, NULL: none */
    size_t        system_bytes;
    char         *stops[LIMIT_STOP_STRINGS]; /* owned */
    uint32_t      n_stops;
    coord_bias_t *bias; /* owned */
    uint32_t      n_bias;
    uint64_t      seed;

    engine_t             *engine;
    volatile sig_atomic_t stop; /* interrupted, or nobody reads any more */
    bool                  reader_gone;
    base_status_t         write_status; /* a full disk, say: no use in going on */
    base_err_t            write_err;
} run_t;

/* Do the options go together? Local, any rank. Status: OK | USAGE. */
base_status_t run_check(const options_t *o, base_err_t *err);

/* Rank 0, before the engine: the prompt, the stop strings, the seed; chat or not, by the options
 * and the model's vocabulary. Status: OK | USAGE | what reading files and model_open return. */
base_status_t run_prepare(run_t *run, base_err_t *err);
void          run_free(run_t *run);

/* The text of the prompt: as it stands, or system message and prompt in their form. malloc'd. */
base_status_t run_prompt_text(const run_t *run, const model_vocab_t *vocab, char **text,
                              size_t *bytes, base_err_t *err);

/* Ids of a text. `first`: it begins the sequence, so BOS goes before it where vocabulary or
 * template want one; else it goes on from earlier text. malloc'd. */
base_status_t run_tokenize(const run_t *run, const coord_tokenizer_t *tokenizer, const char *text,
                           size_t bytes, bool first, int32_t **ids, size_t *n_ids, base_err_t *err);

/* --dump-prompt: needs no engine. Rank 0. */
base_status_t run_dump(run_t *run, base_err_t *err);

/* Text to the standard output, unless --json; false: nobody reads, or write_status is bad. */
bool run_show(run_t *run, const char *text, size_t bytes);

/* How the head is read: --head, where auto is settled by what the sampler asks for. */
const char *run_head(const options_t *o);

/* --n-probs, at most the vocabulary. */
uint32_t run_n_probs(const run_t *run);

/* Parameters of a generation that shows its text and minds interrupts. */
base_status_t run_parameters(run_t *run, const coord_tokenizer_t *tokenizer, const int32_t *ids,
                             size_t n_ids, coord_generate_params_t *p, base_err_t *err);

/* The last lines: a random seed, then layout, speed, memory. */
void run_summary(const run_t *run, const engine_rank_stats_t *stats,
                 const coord_generate_result_t *r);

/* The work of a chat, from the first message to the end of the input. Rank 0. */
base_status_t chat_work(run_t *run, base_err_t *err);

#endif
