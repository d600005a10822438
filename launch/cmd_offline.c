/* launch/cmd_offline.c: synth and plan, which start neither MPI nor an engine. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "launch/cli.h"
#include "launch/cmd_plan.h"
#include "launch/commands.h"
#include "launch/output.h"
#include "launch/session.h"
#include "launch/stop.h"
#include "quantize/synth.h"

static base_status_t report_synth(const options_t *o, const char *path, base_err_t *err)
{
    struct stat info;
    uint64_t    bytes = 0;
    char        size[32];
    json_t     *value = NULL;

    if (stat(path, &info) == 0) bytes = (uint64_t)info.st_size;
    if (!opt_flag(o, OPT_JSON)) {
        base_log(BASE_LOG_INFO, "wrote %s: %s, %s, %s", path, opt_string(o, OPT_SHAPE),
                 opt_string(o, OPT_TYPE), out_bytes(bytes, size, sizeof(size)));
        return BASE_OK;
    }
    value = json_pack("{s:o, s:s, s:s, s:I, s:I}", "file", out_json_text(path, strlen(path)),
                      "shape", opt_string(o, OPT_SHAPE), "type", opt_string(o, OPT_TYPE), "seed",
                      (json_int_t)opt_int(o, OPT_SYNTH_SEED), "file_bytes", (json_int_t)bytes);
    return out_json_write(&value, err);
}

int cmd_synth(const options_t *o)
{
    const char   *path = opt_string(o, OPT_OUTPUT);
    base_err_t    err;
    base_status_t st = BASE_OK;

    if (opt_string(o, OPT_SHAPE) == NULL)
        st = base_fail(&err, BASE_ERR_USAGE, "no shape: give --shape, one of %s", OPT_SHAPES);
    else if (path == NULL)
        st = base_fail(&err, BASE_ERR_USAGE, "no file to write: give -o FILE.gguf");
    if (st != BASE_OK) return cli_usage_error(&err, "synth");
    if (cli_launcher_rank() != 0) return 0;

    const quant_shape_t *shape = quant_shape_find(opt_string(o, OPT_SHAPE));
    const model_type_t   type  = quant_type_find(opt_string(o, OPT_TYPE));
    const model_type_t   embed = quant_type_find(opt_string(o, OPT_EMBED_TYPE));
    base_assert(shape != NULL && type != MODEL_NONE && embed != MODEL_NONE); /* choices */
    st = quant_synth_write(path, shape, type, embed, (uint64_t)opt_int(o, OPT_SYNTH_SEED), 0,
                           stop_catch(), &err);
    if (st == BASE_OK) st = report_synth(o, path, &err);
    return st == BASE_OK ? 0 : stop_fail(&err);
}

int cmd_plan(const options_t *o)
{
    launch_plan_args_t a;

    if (cli_launcher_rank() != 0) return 0;
    memset(&a, 0, sizeof(a));
    a.model_path        = opt_string(o, OPT_MODEL);
    a.shape             = opt_string(o, OPT_SHAPE);
    a.type              = opt_string(o, OPT_TYPE);
    a.cluster           = opt_string(o, OPT_CLUSTER);
    a.nodes             = opt_u32(o, OPT_NODES);
    a.mem               = opt_string(o, OPT_MEM);
    a.cores             = opt_u32(o, OPT_CORES);
    a.membw_gbs         = opt_float(o, OPT_MEMBW);
    a.latency_us        = opt_float(o, OPT_LATENCY);
    a.net_gbit          = opt_float(o, OPT_NETBW);
    a.ranks_per_node    = opt_u32(o, OPT_RANKS_PER_NODE);
    a.n_ctx             = opt_u32(o, OPT_CTX_SIZE);
    a.type_k            = session_cache_type(o, OPT_CACHE_TYPE_K);
    a.type_v            = session_cache_type(o, OPT_CACHE_TYPE_V);
    a.n_seq             = opt_u32(o, OPT_PARALLEL);
    a.n_batch           = opt_u32(o, OPT_BATCH_SIZE);
    a.layout            = opt_string(o, OPT_LAYOUT);
    a.pipeline_parallel = opt_u32(o, OPT_PIPELINE_PARALLEL);
    a.tensor_parallel   = opt_u32(o, OPT_TENSOR_PARALLEL);
    a.split             = opt_string(o, OPT_SPLIT);
    a.pack              = opt_string(o, OPT_PACK);
    a.head              = opt_string(o, OPT_HEAD);
    a.optimize          = opt_string(o, OPT_OPTIMIZE);
    a.depth             = opt_u32(o, OPT_PLAN_DEPTH);
    a.n_prompt          = opt_u32(o, OPT_PLAN_PROMPT);
    a.streams           = opt_u32(o, OPT_STREAMS);
    a.files             = opt_string(o, OPT_FILES);
    a.explain           = opt_flag(o, OPT_EXPLAIN);
    a.scale             = o->v[OPT_SCALE].ints;
    a.n_scale           = o->v[OPT_SCALE].n;
    a.weak              = opt_flag(o, OPT_WEAK);
    a.format            = opt_string(o, OPT_PLAN_FORMAT);
    a.json              = opt_flag(o, OPT_JSON);
    return launch_plan(&a);
}
