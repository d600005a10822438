/* tests/hosts/vm_init.c: the first process of the virtual machine of vm.py.
 *
 * Mounts what Linux programs expect, runs the lines of /commands (a program and its arguments,
 * between tabs) one after the other, sends what each said over the second serial line, and turns
 * the machine off. "@send" instead of a program sends the file named after it.
 * An answer is a line "STATUS BYTES BYTES" and then so many bytes of standard output and of
 * standard error.
 *
 *   /init DOMAIN PROGRAM ARGUMENT...
 *
 * inside the machine runs a program whose memory must all come from that domain. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { LINE = 4096, ARGUMENTS = 64, BIND_ONLY = 2 /* MPOL_BIND */, DOMAINS_MAX = 64 };

static FILE *answers;

static void end(const char *why)
{
    if (why != NULL) perror(why);
    fflush(NULL);
    sync();
    (void)reboot(RB_POWER_OFF);
    for (;;) pause();
}

static void set_up(void)
{
    static const char *const at[][2] = {
        {"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/dev/shm"}};
    struct ifreq   lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    struct termios raw;
    int            fd = -1;
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        (void)mkdir(at[i][1], 0755);
        if (mount(at[i][0], at[i][1], at[i][0], 0, NULL) != 0) perror(at[i][1]);
    }
    if (sethostname("domains", 7) != 0) perror("host name");
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) != 0) perror("lo");
    (void)close(fd);
    fd = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
    if (fd < 0 || tcgetattr(fd, &raw) != 0) end("/dev/ttyS1");
    cfmakeraw(&raw); /* bytes as they are */
    if (tcsetattr(fd, TCSANOW, &raw) != 0) end("/dev/ttyS1");
    answers = fdopen(fd, "w");
    if (answers == NULL) end("/dev/ttyS1");
}

static void copy(const char *path, long bytes)
{
    char  piece[4096];
    FILE *f = fopen(path, "rb");
    while (f != NULL && bytes > 0) {
        size_t n = fread(piece, 1, bytes < LINE ? (size_t)bytes : LINE, f);
        if (n == 0) break;
        (void)fwrite(piece, 1, n, answers);
        bytes -= (long)n;
    }
    if (f != NULL) (void)fclose(f);
}

static void answer(int status, const char *out, const char *err)
{
    struct stat o = {0};
    struct stat e = {0};
    (void)stat(out, &o);
    (void)stat(err, &e);
    fprintf(answers, "%d %ld %ld\n", status, (long)o.st_size, (long)e.st_size);
    copy(out, (long)o.st_size);
    copy(err, (long)e.st_size);
    fflush(answers);
}

static void child(char **arguments)
{
    int in  = open("/dev/null", O_RDONLY);
    int out = open("/tmp/out", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int err = open("/tmp/err", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(126);
    execv(arguments[0], arguments);
    perror(arguments[0]);
    _exit(127);
}

static int run_on(char **arguments)
{
    unsigned long mask = 1ul << strtol(arguments[0], NULL, 10);
    if (syscall(SYS_set_mempolicy, BIND_ONLY, &mask, DOMAINS_MAX + 1ul) != 0) {
        perror("set_mempolicy");
        return 126;
    }
    execv(arguments[1], arguments + 1);
    perror(arguments[1]);
    return 127;
}

static void run(char *line)
{
    char *arguments[ARGUMENTS + 1] = {NULL};
    char *rest                     = line;
    int   status                   = 0;
    for (int i = 0; i < ARGUMENTS && rest != NULL; i++) arguments[i] = strsep(&rest, "\t");
    if (arguments[0] == NULL) end("a line of /commands without a program");
    printf("init: %s\n", arguments[0]);
    fflush(stdout);
    if (strcmp(arguments[0], "@send") == 0) {
        answer(arguments[1] != NULL && access(arguments[1], R_OK) == 0 ? 0 : 1,
               arguments[1] != NULL ? arguments[1] : "", "");
        return;
    }
    pid_t pid = fork();
    if (pid == 0) child(arguments);
    if (pid < 0 || waitpid(pid, &status, 0) != pid) end("fork");
    answer(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), "/tmp/out",
           "/tmp/err");
}

int main(int argc, char **argv)
{
    char  line[LINE];
    FILE *f = NULL;
    if (getpid() != 1) return argc < 3 ? 2 : run_on(argv + 1);
    set_up();
    (void)setenv("PATH", "/usr/bin:/bin", 1);
    (void)setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    (void)setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    (void)setenv("OMPI_MCA_plm", "isolated", 1); /* no other machines: no ssh is looked for */
    (void)setenv("PMIX_MCA_gds", "^ds12", 1);
    f = fopen("/commands", "r");
    if (f == NULL) end("/commands");
    while (fgets(line, sizeof(line), f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        run(line);
    }
    end(NULL);
    return 0;
}
