/* launch/foreign.c: the table of other engines' names. */
#include "launch/foreign.h"

#include <stdbool.h>
#include <string.h>

#include "launch/options.h"

typedef struct {
    uint32_t    commands; /* where the hint is true; 0: the words are commands */
    const char *words;    /* "-fa --flash-attn" */
    const char *hint;
} foreign_t;

#define MODEL_COMMANDS (CMD_RUN | CMD_EVAL | CMD_BENCH)

static const foreign_t table[] = {
    {0, "chat", "a chat is run -m MODEL -cnv"},
    {0, "serve server api start",
     "there is no HTTP server yet: run makes one sequence, bench -np times many"},
    {0, "generate complete completion infer cli main", "text is made by run -m MODEL -p TEXT"},
    {0, "perplexity ppl", "that is eval -m MODEL --perplexity FILE"},
    {0, "benchmark", "that is bench -m MODEL"},
    {0, "quantize create",
     "ternary weights need none: run takes the file or folder as it is; convert writes a GGUF "
     "file"},
    {0, "detokenize", "that is tokenize -m MODEL --decode"},
    {0, "show info", "that is inspect MODEL"},
    {0, "pull download list ls",
     "nothing is downloaded or kept here: -m takes a GGUF file or a Hugging Face folder"},

    {CMD_RUN, "--max-tokens --max-new-tokens --num-predict --n-tokens",
     "the number of tokens is -n N"},
    {MODEL_COMMANDS | CMD_PLAN, "--num-ctx --n-ctx --context --max-seq-len --max-length",
     "the context is -c N"},
    {MODEL_COMMANDS, "--num-threads --n-threads -tb --threads-batch",
     "the threads of each rank are -t N, for prompts too"},
    {CMD_PLAN, "-t --threads", "the cores of a machine are --cores N"},
    {CMD_RUN, "-np --parallel", "run makes one sequence, bench -np times many"},
    {MODEL_COMMANDS | CMD_PLAN, "--kv-cache-dtype",
     "the KV cache is set by -ctk TYPE -ctv TYPE (f32, f16)"},
    {MODEL_COMMANDS | CMD_PLAN, "-ts --tensor-split", "the shares of the ranks are --split 3,1"},
    {MODEL_COMMANDS, "-sm --split-mode --rpc",
     "mpirun starts the ranks, --layout SxT says stages x shards"},
    {MODEL_COMMANDS, "-fa --flash-attn",
     "attention always goes through the cache in blocks: leave it out"},
    {MODEL_COMMANDS, "--mlock",
     "packed weights are plain memory of the process, not locked: keep the swap small, trireme "
     "doctor tells when it is used"},
    {MODEL_COMMANDS, "--no-mmap --mmap -mmp",
     "weights are packed into memory at load, and of the mapped file only rows of the embedding "
     "are "
     "read after that: leave it out"},
    {MODEL_COMMANDS, "--numa",
     "memory and threads are placed by rank: mpirun --map-by numa --bind-to numa, a rank for each "
     "domain"},
    {MODEL_COMMANDS, "-dev --device --main-gpu -mg --gpu-memory-utilization",
     "this program runs on CPUs: leave it out"},
    {MODEL_COMMANDS | CMD_INSPECT | CMD_TOKENIZE | CMD_VERIFY, "-hf -hfr --hf-repo -mu --model-url",
     "nothing is downloaded: -m takes a GGUF file or a Hugging Face folder"},
    {CMD_RUN, "--jinja --no-jinja",
     "chat templates are recognised by their text and built in: leave it out; --chat-template NAME "
     "takes another, --dump-prompt shows it"},
    {CMD_RUN, "--chat-template-file", "templates are built in: --chat-template NAME"},
    {CMD_RUN, "-i --interactive --interactive-first --chat", "a chat is -cnv"},
    {CMD_RUN, "--system", "the system prompt is -sys TEXT"},
    {CMD_RUN, "--color", "colours are --log-colors"},
    {CMD_RUN, "--stream", "text is always written as it comes: leave it out"},
    {CMD_RUN, "--host --port", "there is no HTTP server yet"},
    {CMD_RUN, "--logprobs --top-logprobs", "that is --n-probs N with --json"},
    {CMD_RUN, "--repetition-penalty", "that is --repeat-penalty X"},
    {CMD_RUN, "--grammar --grammar-file --json-schema -j", "output is not held to a grammar here"},
    {CMD_RUN, "--lora --mirostat --dry-multiplier --xtc-probability -md --model-draft",
     "there is no such thing here; run --help=sampl lists the samplers"},
    {CMD_RUN, "--prompt-cache", "prompts are not kept; --pack-cache DIR keeps the weights"},
    {CMD_RUN | CMD_EVAL, "--log-disable", "-q leaves warnings and errors only"},
    {CMD_RUN | CMD_EVAL | CMD_BENCH, "--verbose-prompt",
     "tokenize shows ids, run --dump-prompt the text"},
    {CMD_BENCH | CMD_PLAN, "--csv", "that is -o csv (of plan with --scale)"},
    {CMD_BENCH, "--md --markdown", "that is -o md"},
    {CMD_BENCH, "--jsonl", "that is -o jsonl"},
    {CMD_BENCH, "--sql", "that is -o sql"},
    {CMD_PLAN, "--svg", "that is -o svg with --scale"},
    {CMD_RUN | CMD_EVAL | CMD_INSPECT | CMD_TOKENIZE, "--csv", "figures come as JSON: --json"},
    {CMD_ALL, "--format --output-format",
     "--json writes JSON; bench and plan --scale have -o FORMAT"},
};

static bool same(const char *name, const char *word, size_t n)
{
    if (strlen(name) != n) return false;
    for (size_t i = 0; i < n; i++)
        if (name[i] != word[i] && !(i > 1 && name[i] == '-' && word[i] == '_')) return false;
    return true;
}

static const char *find(uint32_t command, const char *word, size_t n)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const char *at = table[i].words;
        char        name[64];
        if (command == 0 ? table[i].commands != 0 : (table[i].commands & command) == 0) continue;
        while (opt_next_word(&at, ' ', name, sizeof(name)))
            if (same(name, word, n)) return table[i].hint;
    }
    return NULL;
}

const char *foreign_command(const char *word)
{
    return find(0, word, strlen(word));
}

const char *foreign_option(uint32_t command, const char *word, size_t n)
{
    return find(command, word, n);
}
