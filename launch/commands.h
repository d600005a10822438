/* launch/commands.h
 * The commands. Each takes parsed options, writes results to stdout and messages to stderr, and
 * returns the exit status of the process. Those that drive the engine are collective over all
 * processes that the launcher started; the others do their work on the launcher's rank 0. */
#ifndef TRIREME_LAUNCH_COMMANDS_H
#define TRIREME_LAUNCH_COMMANDS_H

#include "launch/options.h"

int cmd_run(const options_t *options);
int cmd_eval(const options_t *options);
int cmd_tokenize(const options_t *options);
int cmd_inspect(const options_t *options);
int cmd_bench(const options_t *options);
int cmd_kernels(const options_t *options); /* bench --kernels */
int cmd_comm(const options_t *options);    /* bench --comm */
int cmd_synth(const options_t *options);
int cmd_plan(const options_t *options);
int cmd_doctor(const options_t *options);
int cmd_convert(const options_t *options);
int cmd_verify(const options_t *options);

#endif
