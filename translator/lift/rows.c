/* The row of each mnemonic: the lift function and its argument, from the .def files. */
#include "lift/lift.h"
#include "lift/vector/sse.h"
#include "lift/vector/vex.h"
#include "lift/x87/x87.h"

#define LIFT(mnemonic, function, argument) LiftFunction function;
#include "lift/integer/integer.def"
#include "lift/vector/sse.def"
#include "lift/x87/x87.def"
#undef LIFT

const LiftRow lift_rows[X86_MNEMONIC_COUNT] = {
#define LIFT(mnemonic, function, argument) [X86_##mnemonic] = {function, argument},
#define VEX(mnemonic, relative, shape, shift) LIFT(mnemonic, vex_lift, VEX_ARGUMENT(X86_##relative, shape, shift))
#include "lift/integer/integer.def"
#include "lift/vector/sse.def"
#include "lift/x87/x87.def"
#undef LIFT
#define LIFT(mnemonic, function, argument) [X86_##mnemonic] = {function, argument, .extended = true},
#include "lift/vector/avx.def"
#undef VEX
#undef LIFT
};
