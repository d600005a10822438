/* worker/kernels/many.h
 * What a ternary kernel for many tokens may expect of a call. */
#ifndef TRIREME_KERN_MANY_H
#define TRIREME_KERN_MANY_H

/* With fewer tiles a variant may do without the tables that it builds for each call, as they serve
 * too little. Who measures such a kernel hands it at least so many. */
enum { KERN_MANY_TILES = 32 };

#endif
