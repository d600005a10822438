/* launch/commands.c: the table of commands, with the texts that explain them. */
#include "launch/commands.h"

#include <string.h>

#include "launch/cli.h"

const command_t cli_commands[COMMAND_COUNT] = {
    {
        "run",
        CMD_RUN,
        "-m MODEL (-p TEXT | -f FILE | -cnv) [options]",
        "generate text from a prompt, or chat",
        "Reads the prompt, lets the model go on, and streams the text to the standard output as it "
        "comes. The last line on the standard error gives layout, speed and memory of each "
        "rank.\n\n"
        "The same model, prompt, seed and sampling give the same text on any number of ranks, "
        "threads, layouts and CPU variants, bit for bit.\n\n"
        "With -cnv it is a chat: each line of the standard input is a message, the model answers, "
        "and remembers what was said until the context is full. Messages get the form that the "
        "model was trained on: the chat template that its file names, or --chat-template. A model "
        "that has a template chats also when there is neither -p nor -f. Ctrl-D ends the chat; "
        "Ctrl-C ends an answer, or under mpirun everything.\n\n"
        "With --json the standard output is one JSON value instead: layout, ranks, prompt_tokens, "
        "tokens, text, stop, seed, timings and memory_per_rank; in a chat, chat_template too, and "
        "one answer is given; with --n-probs, completion_probabilities.",
        "# one process, all its cores\n"
        "trireme run -m model.gguf -p \"Once upon a time\" -n 100\n"
        "# four ranks on this machine: two pipeline stages of two shards\n"
        "mpirun -n 4 trireme run -m model.gguf -p \"Once upon a time\" --layout 2x2\n"
        "# two machines, a rank each, with all the cores of its machine\n"
        "mpirun --host a,b --map-by ppr:1:node --bind-to none trireme run -m model.gguf -f "
        "prompt.txt\n"
        "# chat, also over two ranks\n"
        "trireme run -m model.gguf -cnv -sys \"Answer in one sentence.\"\n"
        "mpirun -n 2 trireme run -m model.gguf -cnv\n"
        "# the text that a message becomes\n"
        "trireme run -m model.gguf -cnv -p \"Hello\" --dump-prompt\n"
        "# always the most likely token; figures as JSON\n"
        "trireme run -m model.gguf -p \"Hello\" -n 32 --temp 0 --json",
        cmd_run,
    },
    {
        "eval",
        CMD_EVAL,
        "-m MODEL (--perplexity FILE | --bits-per-byte FILE |\n"
        "                         --logits OUT.npy (-p TEXT | -f FILE | --ids LIST))",
        "logits, perplexity, bits per byte",
        "One of three measurements: the logits of every token of a prompt (--logits), the "
        "perplexity over a text as llama.cpp counts it (--perplexity), or the bits per byte over a "
        "text (--bits-per-byte), which can be compared between models with unlike tokenizers.\n\n"
        "Perplexity cuts the text into chunks of -c tokens and scores the second half of each; a "
        "figure is only comparable with others of the same -c.\n\n"
        "Row i of the logits is what follows token i: the log-probability of token i + 1 is entry "
        "ids[i + 1] of row i, less the log-sum-exp of that row. run --n-probs gives those of "
        "generated tokens.",
        "# float32 [n_tokens, n_vocab], as numpy.load reads it\n"
        "trireme eval -m model.gguf --ids 1,2,3 --logits out.npy\n"
        "# perplexity over WikiText-2, on two ranks\n"
        "mpirun -n 2 trireme eval -m model.gguf --perplexity wiki.test.raw -c 512\n"
        "# the first ten chunks, as JSON\n"
        "trireme eval -m model.gguf --perplexity wiki.test.raw -c 512 --chunks 10 --json",
        cmd_eval,
    },
    {
        "tokenize",
        CMD_TOKENIZE,
        "MODEL [--decode] < TEXT",
        "text to token ids, and back",
        "Reads the standard input and writes the token ids on one line, parted by spaces; with "
        "--decode reads ids (parted by spaces, commas or newlines) and writes the text. Needs the "
        "model's vocabulary only, and runs without MPI.",
        "# ids of a text, with the begin-of-text token when the model wants one\n"
        "printf %s \"Once upon a time\" | trireme tokenize -m model.gguf\n"
        "# and back\n"
        "echo \"1 403 407 261 378\" | trireme tokenize -m model.gguf --decode",
        cmd_tokenize,
    },
    {
        "inspect",
        CMD_INSPECT,
        "MODEL [--tensors]",
        "what a model file holds",
        "Shape, tokenizer, types, and where the bytes are. Bits per weight are honest: all bits "
        "that the tensors take in the file, scales and padding included, divided by the number of "
        "parameters. ROWS4 are the packed weights of Hugging Face directories, four rows a byte; "
        "F16_TERN ternary weights kept as F16. The chat template is what run -cnv would take. Runs "
        "without MPI.",
        "# a table\n"
        "trireme inspect model.gguf\n"
        "# every tensor, as JSON\n"
        "trireme inspect -m model.gguf --tensors --json",
        cmd_inspect,
    },
    {
        "bench",
        CMD_BENCH,
        "(-m MODEL | --shape NAME | --kernels | --comm) [options]",
        "speed, as llama-bench measures it",
        "Times the processing of prompts (pp512) and generation (tg128); tokenizing and sampling "
        "are left out, the tokens are random by a fixed seed. Lists are tried in every "
        "combination.\n\n"
        "JSON has those of llama-bench's keys that mean something here, and ours: ranks, layout, "
        "peak_rss_bytes, compute_ms, comm_ms, bytes_per_token, pack, cpu, head, and "
        "head_rows with --head screened.\n\n"
        "With --shape the model is a synthetic one of that shape, made in memory: every rank makes "
        "its own slices, and nothing is written.\n\n"
        "With --kernels no model is run: each line is one kernel in one variant, all threads "
        "on weights from memory. tokens: vectors multiplied together (of attention query rows); "
        "bandwidth: GB/s against what plain reading reached just before and after; peak: products "
        "against a loop in registers (probe_mac of bytes, probe_fma of floats). The same as JSON: "
        "kernel, variant, n_threads, n_tokens, bits_per_weight, gb_s, gweights_s, gproducts_s, "
        "read_gb_s, bandwidth_fraction, peak_fraction. About a minute; one process, without "
        "MPI.\n\n"
        "With --comm no model is run either: sums (sum_i32, against MPI_Allreduce), gathers "
        "(gather_f32, MPI_Allgatherv), vectors from rank to rank (hop, MPI_Send and MPI_Recv), "
        "control messages with a barrier behind (control, MPI_Bcast) and the barrier, of all "
        "ranks, and, where every host has as many, of the ranks of a host alone. Microseconds of "
        "one call; ratio: MPI's median by ours. As JSON: op, group, means, mpi, n_ranks, n_hosts, "
        "bytes, best_us, median_us, gb_s, mpi_best_us, mpi_median_us, ratio. Bind each rank to a "
        "core of its own.",
        "# llama-bench's usual tests\n"
        "trireme bench -m model.gguf\n"
        "# how two ranks on this machine compare, at two depths, as JSON\n"
        "mpirun -n 2 trireme bench -m model.gguf -p 256 -n 64 -d 0,1024 -o json\n"
        "# a shape without a file\n"
        "trireme bench --shape bitnet-2b-4t --type tq2_0 -t 4,8\n"
        "# the kernels for one token\n"
        "trireme bench --kernels --filter gemv\n"
        "# what two ranks on this machine pay for a sum\n"
        "mpirun -n 2 --bind-to core trireme bench --comm --sizes 1024,16384",
        cmd_bench,
    },
    {
        "synth",
        CMD_SYNTH,
        "--shape NAME [--type TYPE] -o FILE.gguf",
        "write a random model of a known shape",
        "Writes a GGUF file with random ternary weights that loads like a real model, here and in "
        "other engines: for measuring speed and memory, not for text. The same shape, type and "
        "seed give the same bytes. Runs without MPI.",
        "# 2.4 billion parameters, 1.2 GB\n"
        "trireme synth --shape bitnet-2b-4t --type tq2_0 -o 2b.gguf",
        cmd_synth,
    },
    {
        "plan",
        CMD_PLAN,
        "(-m MODEL | --shape NAME) (--cluster FILE | --mem SIZE [--nodes N] ...)",
        "which nodes and layout are best for a model, and how fast",
        "Chooses nodes, stages, shards, their shares and layers for a cluster that is described by "
        "a file or by a few figures, predicts the memory of each rank and the speed, and says how "
        "to start it. Starts no MPI and reads no weights. Exit status 1 when nothing fits; the "
        "message says which single change would do.\n\n"
        "Speeds come from the figures given: what is missing is left out, and without --membw (and "
        "--latency and --netbw between nodes) the first layout that fits is taken, with other "
        "shares and layers where none does as it is. --layout keeps "
        "to one layout, on the best nodes and with the best shares; --split to shares; with both "
        "that one plan is predicted.\n\n"
        "--scale is a simulator: the speed with more and more nodes like the first, and how many "
        "of each kind of node the model needs in fp16, int8, 2 bits and 1.6 bits.\n\n"
        "A cluster file is JSON; a node needs mem alone, and there may be several kinds:\n"
        "{\"nodes\": [{\"name\": \"big\", \"count\": 2, \"mem\": \"64G\", \"cores\": 32, "
        "\"membw_gbs\": 100,\n            \"ranks\": 1}], \"latency_us\": 30, \"net_gbit\": 25}",
        "# eight machines of 24 GiB\n"
        "trireme plan --shape bitnet-100b --nodes 8 --mem 24G --cores 16 --membw 40 --latency 50 "
        "--netbw 10\n"
        "# why that one; and what is best for 16 sequences at once\n"
        "trireme plan -m model.gguf --cluster c.json --explain\n"
        "trireme plan -m model.gguf --cluster c.json --optimize throughput -np 16\n"
        "# does this file fit two machines?\n"
        "trireme plan -m model.gguf --nodes 2 --mem 8G --json\n"
        "# up to 1024 machines, as a picture\n"
        "trireme plan --shape llama3-405b --mem 64G --cores 32 --membw 100 --latency 30 --netbw 25 "
        "--scale 1-1024*2 -o svg",
        cmd_plan,
    },
    {
        "doctor",
        CMD_DOCTOR,
        "[--save FILE.json] [options]",
        "what this cluster can do, and what is wrong with it",
        "Started as a run would be, with the same launcher: every rank reports its machine "
        "(cores, memory free and allowed by control groups, swap) and measures reading of weights "
        "and "
        "int8 products, pairs of hosts measure latency and bandwidth. Then it says what is wrong: "
        "bindings too narrow, memory swapped out, one slow host, a slow interface in use. A few "
        "seconds; needs no model. Exit status 1 when there is a problem; advice alone is 0.\n\n"
        "--save writes the cluster as plan reads it.",
        "# this machine\n"
        "trireme doctor\n"
        "# four hosts; then which layout for a model\n"
        "mpirun --hostfile hosts --map-by ppr:1:node --bind-to none trireme doctor --save c.json\n"
        "trireme plan -m model.gguf --cluster c.json",
        cmd_doctor,
    },
    {
        "convert",
        CMD_CONVERT,
        "MODEL OUT.gguf [--type TYPE] [--embed-type TYPE]",
        "any model that opens as one GGUF file",
        "Reads a Hugging Face directory or a GGUF file and writes one GGUF file that llama.cpp "
        "loads too. Trits stay as they are; master weights become ternary by their absolute "
        "mean, as when they are run; dense weights are copied. The one thing that changes is the "
        "scale of ternary weights, which the types tq2_0 and tq1_0 store in half precision: the "
        "last line says by how much. Type i2_s keeps the scale; bitnet.cpp reads it, llama.cpp "
        "does not. Runs without MPI; files are mapped, and a few rows at a time are worked on.\n\n"
        "The architecture becomes llama without sub-norms, bitnet with them. Models with squared "
        "ReLU (BitNet 2B-4T) become bitnet-b1.58, which bitnet.cpp knows and llama.cpp does not. "
        "Rows that are no multiple of the type's block (256 weights; i2_s: 128, or 64 with "
        "--i2s-layout arm) have no ternary form in GGUF: such tensors are written as F16, 16 bits "
        "a weight, and named in the key trireme.ternary_tensors, so that trireme still runs them "
        "as ternary and other programs as dense. trireme itself needs no conversion of any model.",
        "# a directory as it was downloaded\n"
        "trireme convert Falcon3-1B-Instruct-1.58bit falcon3.gguf\n"
        "# the smaller type, an embedding of half the size\n"
        "trireme convert -m DIR -o out.gguf --type tq1_0 --embed-type q8_0\n"
        "# for bitnet.cpp\n"
        "trireme convert DIR out.gguf --type i2_s",
        cmd_convert,
    },
    {
        "verify",
        CMD_VERIFY,
        "MODEL [--tensors]",
        "hash and check a model",
        "Reads every byte: the shapes agree, ternary codes exist, scales, norms and weights are "
        "finite. Prints an XXH3 hash of 128 bits over all tensors and scales, by which two copies "
        "can "
        "be compared; with --tensors one for each. Exit status 3 when something is damaged; the "
        "message names tensor and row. Runs without MPI.",
        "# one line\n"
        "trireme verify model.gguf\n"
        "# every tensor, as JSON\n"
        "trireme verify -m model.gguf --tensors --json",
        cmd_verify,
    },
};

const command_t *cli_command_find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(cli_commands[i].name, name) == 0) return &cli_commands[i];
    return NULL;
}

const char *const cli_notes[] = {
    "Start it plain, or with as many ranks as wished: mpirun -n N trireme ..., or srun --mpi=pmix "
    "trireme .... Give each rank its cores: --bind-to none with one rank a machine, --map-by numa "
    "--bind-to numa with one a NUMA node; mpirun's own default binds up to two ranks to one core "
    "each.",
    "Every option has a twin in the environment: TRIREME_ and its name in capitals, such as "
    "TRIREME_CTX_SIZE=4096; flags take 1 or 0. The command line wins.",
    "Results go to the standard output, messages and progress to the standard error.",
    "Exit status: 0 done, 1 failure at run time, 2 usage, 3 a model or file that is bad, or "
    "cannot be read or written, 130 or 143 "
    "interrupted (what was generated until then is kept).",
    NULL,
};
