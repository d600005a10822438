/* worker/kernels/exp_const.h
 * The constants of exp_ (NUMERICS 6): every variant must use these very floats. */
#ifndef TRIREME_KERN_EXP_CONST_H
#define TRIREME_KERN_EXP_CONST_H

#define KERN_EXP_MIN    (-87.33654f)
#define KERN_EXP_MAX    88.72283f
#define KERN_EXP_LOG2E  1.44269502f
#define KERN_EXP_LN2_HI (-0.693145752f)
#define KERN_EXP_LN2_LO (-1.42860677e-6f)
#define KERN_EXP_C7     (1.0f / 5040.0f)
#define KERN_EXP_C6     (1.0f / 720.0f)
#define KERN_EXP_C5     (1.0f / 120.0f)
#define KERN_EXP_C4     (1.0f / 24.0f)
#define KERN_EXP_C3     (1.0f / 6.0f)
#define KERN_EXP_C2     0.5f

#endif
