#include <trinix/backends/cpu/attention/attention.h>
#include <trinix/core/ops/attention.h>

namespace trinix::cpu {

namespace {

const char* why_not(const Attention::Forward& args, bool) {
  if (args.in.q.dtype == DType::f64) return "computes in f32, the operands are f64";
  return nullptr;
}

void forward(const Attention::Forward& args, const Stream&) {
  // Below this many queries most of a register tile would be idle.
  constexpr std::int64_t kFewQueries = 4;
  const bool several = args.in.query_starts.defined;
  const std::int64_t queries = several ? args.in.longest_query : args.in.q.size(1);
  if (queries <= kFewQueries && args.in.dropout == 0) {
    attention_few_queries(args);
  } else {
    attention_forward(args);
  }
}

void backward(const Attention::Backward& args, const Stream&) {
  if (args.dq.defined || args.dk.defined || args.dv.defined) attention_backward(args);
  if (args.dmask.defined) attention_mask_backward(args);
}

}  // namespace

void register_attention() {
  register_kernel<Attention>({"cpu_blocked", Kernel::flash, DeviceType::cpu, 10, why_not, forward, backward});
}

}  // namespace trinix::cpu
