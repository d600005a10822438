/* launch/main.c: the one main() of the program. Everything else of launch/ is a library
 * (trireme_launch), so that tests can link it. */
#include <unistd.h>

#include "launch/cli.h"

int main(int argc, char **argv)
{
    return cli_main(argc, argv, environ);
}
