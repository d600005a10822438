/* coordinator/chat.h
 * Chat templates: how the turns of a conversation become the one text that a model was trained on.
 *
 * Models carry their template as a Jinja program. This room holds no Jinja interpreter but the
 * templates that ternary models use, by name, and recognises them by what stands in the program.
 * A program it does not recognise is an error, never a guess; neither does it take one that does
 * more than its row (other standard system messages, thoughts, the day's date). What comes out is
 * byte for byte what the Jinja program gives (tests/coordinator/make_chat.py), with these
 * exceptions:
 *   - the BOS token at the very beginning is left out: the tokenizer puts it (coord_chat_bos)
 *   - bitnet-gguf has no place for a system message: it goes before the first user message, parted
 *     from it by an empty line
 *   - gemma does so too where the program of the file (Gemma 2) refuses a system message
 *   - mistral-v3 puts the system message before the first user message, not before the latest: a
 *     conversation only grows at its end
 *
 *   bitnet             User: text<|eot_id|>Assistant:              BitNet b1.58 2B4T, as trained
 *   bitnet-gguf        Human: text, BITNETAssistant:               the same, in Microsoft's GGUF
 *   llama3             <|start_header_id|>user<|end_header_id|>...
 *   llama3.1           the same behind its dates                   Llama 3.1, 3.3
 *   llama2             [INST] <<SYS>> ... [/INST]
 *   chatml             <|im_start|>user ... <|im_end|>             OpenHermes, SmolLM
 *   smollm2, qwen2.5   chatml with their own standard system message
 *   falcon3            <|user|> ...                                Falcon3, Tulu
 *   zephyr             <|user|> ...</s>                            Zephyr, TinyLlama, StableLM
 *   gemma              <start_of_turn>user ... <end_of_turn>       Gemma 1 to 3
 *   phi3               <|user|> ... <|end|>                        Phi 3.5
 *   deepseek3          <|User|>text<|Assistant|>, bars U+FF5C      DeepSeek V2.5 and V3
 *   mistral-v1, -v3, -v3-tekken, -v7, -v7-tekken
 *                      [INST] ... [/INST]                          Mistral and kin
 *
 * Pure functions over constant tables: any thread. */
#ifndef TRIREME_COORDINATOR_CHAT_H
#define TRIREME_COORDINATOR_CHAT_H

#include "base/status.h"
#include "model/model.h"

typedef enum { COORD_ROLE_SYSTEM, COORD_ROLE_USER, COORD_ROLE_ASSISTANT } coord_role_t;

typedef struct {
    coord_role_t role;
    const char  *text; /* any bytes; names of special tokens in it are what they say */
    size_t       bytes;
} coord_message_t;

typedef struct coord_chat_template coord_chat_template_t;

/* The template called `name`; with name NULL, the one that the model's Jinja program (may be empty)
 * and its architecture ("bitnet-b1.58", "llama") mean. For bitnet-b1.58 that is `bitnet` when the
 * model has no program, and also when it has the one of Microsoft's GGUF files, which contradicts
 * the training.
 * Status: OK | USAGE (no such name) | UNSUPPORTED (no program, or one that is not known); the text
 * lists the names. */
base_status_t coord_chat_find(const char *name, model_str_t jinja, const char *arch,
                              const coord_chat_template_t **out, base_err_t *err);

const char *coord_chat_name(const coord_chat_template_t *chat);
/* Name number i, NULL after the last. */
const char *coord_chat_name_at(size_t i);

/* Does a conversation begin with BOS, whatever the vocabulary says about plain text? */
bool coord_chat_bos(const coord_chat_template_t *chat);

/* The text of messages[n_done .. n_messages), and what opens the assistant's answer if
 * `open_answer`.
 * n_done   0: from the beginning. Else messages[n_done - 1] is an answer that the model has just
 *          given: the text begins with what ends an answer. So a chat that has run a text and then
 *          generated an answer goes on with exactly the bytes that are still missing.
 * vocab    names of BOS and EOS, where the template wants them inside the text.
 * *text    malloc'd, `*bytes` long plus a NUL; set only on success.
 * Status: OK | USAGE (no messages; a system message after the first place; llama2 and mistral:
 * roles that do not alternate from user on) | LIMIT | MEMORY. */
base_status_t coord_chat_render(const coord_chat_template_t *chat, const model_vocab_t *vocab,
                                const coord_message_t *messages, size_t n_messages, size_t n_done,
                                bool open_answer, char **text, size_t *bytes, base_err_t *err);

#endif
