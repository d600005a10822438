/* launch/plan_report.h
 * Inside `trireme plan`: what it knows, and how it says it. */
#ifndef TRIREME_LAUNCH_PLAN_REPORT_H
#define TRIREME_LAUNCH_PLAN_REPORT_H

#include "base/status.h"
#include "model/model.h"
#include "partition/choose.h"

/* Formats that a model might be stored in, for how many machines each needs. */
enum { PLAN_FP16, PLAN_INT8, PLAN_T2, PLAN_T3, PLAN_FORMATS };
extern const char *const plan_format_names[PLAN_FORMATS]; /* "fp16", "int8", "2 bits", "1.6 bits" */

enum { PLAN_BATCH_DEFAULT = 512 }; /* tokens of a step, as of run */

typedef struct {
    model_t       *model; /* of -m; or */
    model_desc_t   shape; /* of --shape, owned; */
    model_desc_t   desc;  /* either of them, borrowed */
    part_cluster_t cluster;
    part_ask_t     ask;
    const char    *pack;
    bool           pack_open; /* not asked for */
    const char    *pack_reason;
    const char    *model_name; /* for a command line: -m FILE or --shape NAME */
    const char    *head;       /* "full" or "screened" where it was asked for, else NULL */
    bool           explain;
    part_choice_t  choice;
    part_trials_t  trials;
    /* What would make it fit, each alone. */
    uint32_t advice_nodes; /* like nodes that would do; 0: none found */
    uint32_t advice_ctx;   /* context that would fit; 0: none found */
    bool     advice_pack;  /* --pack t3 */
    bool     advice_cache; /* -ctk f16 -ctv f16 */
    /* Nodes like the first that each format needs; 0: more than there may be, or not known. */
    uint32_t needs[PLAN_FORMATS];
} plan_run_t;

/* Digits behind the point that make about three in all. */
int plan_digits(double v);

/* Fill r->needs, or those of other wishes. Status: OK | MEMORY. */
base_status_t plan_needs(const model_desc_t *desc, const part_node_t *node, const part_ask_t *ask,
                         uint32_t *needs, base_err_t *err);
/* The model as if its ternary tensors were stored in a format: *out is to be freed
 * (model_desc_free). False: rows that the format cannot hold. */
bool plan_in_format(const model_desc_t *desc, uint32_t format, model_desc_t *out);

/* Status: OK | MEMORY | SYSTEM. */
base_status_t plan_print_table(const plan_run_t *r, base_err_t *err);
base_status_t plan_print_json(const plan_run_t *r, base_err_t *err);
void          plan_say_misfit(const plan_run_t *r);

/* --scale. */
typedef struct {
    const int64_t *nodes;
    uint32_t       n;
    bool           weak;
    const char    *format; /* "text", "json", "csv", "svg" */
} plan_scale_t;
base_status_t plan_scale(const plan_run_t *r, const plan_scale_t *scale, base_err_t *err);

#endif
