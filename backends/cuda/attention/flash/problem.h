#pragma once

#include <trinix/backends/cuda/attention/attention.h>
#include <trinix/backends/cuda/tensor_map.h>

/// @file
/// The operands of attention for the copy engine.

namespace trinix::cuda {

/// @param rows, heads, depth of the operand
inline CUtensorMap map_operand(const AttentionProblem& p, const HeadsView& v, std::int64_t rows, int heads, int depth,
                               int box_rows) {
  return make_tensor_map("attention",
                         {.data = v.data,
                          .batches = p.query_starts == nullptr ? p.batch : 1,
                          .length = rows,
                          .heads = heads,
                          .depth = depth,
                          .batch_stride = v.batch,
                          .row_stride = v.row,
                          .head_stride = v.head},
                         box_rows);
}
inline CUtensorMap map_queries(const AttentionProblem& p, const HeadsView& v, int depth, int box_rows) {
  return map_operand(p, v, p.query_rows, p.heads, depth, box_rows);
}
inline CUtensorMap map_keys(const AttentionProblem& p, const HeadsView& v, int depth, int box_rows) {
  return map_operand(p, v, p.key_rows, p.key_heads, depth, box_rows);
}

}  // namespace trinix::cuda
