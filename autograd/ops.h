#pragma once

/// @file
/// Every differentiable function.

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/attention.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/glu.h>
#include <trinix/autograd/ops/indexing.h>
#include <trinix/autograd/ops/joining.h>
#include <trinix/autograd/ops/linalg.h>
#include <trinix/autograd/ops/linear_gelu.h>
#include <trinix/autograd/ops/loss.h>
#include <trinix/autograd/ops/norm.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/autograd/ops/reduce.h>
#include <trinix/autograd/ops/rope.h>
#include <trinix/autograd/ops/softmax.h>
#include <trinix/autograd/ops/unary.h>
