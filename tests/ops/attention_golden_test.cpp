// Attention against PyTorch's scaled_dot_product_attention, forward and backward.
#include "op_case.h"
#include "support/golden.h"

#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

/// Results and gradients of one case in a dtype on a device, as stored and as computed here.
void compare(const StateDict& values, const std::string& name, AttentionOptions options, bool with_mask, DType dtype,
             Device device) {
  SCOPED_TRACE(name + " in " + std::string(trinix::name(dtype)) + " on " + device.to_string());
  const StateDict here = below(values, name + ".");
  const auto at = [&](const char* key) { return here.at(key).to(dtype).to(device); };
  std::vector<Tensor> leaves = {at("q"), at("k"), at("v")};
  std::vector<const char*> gradients = {"dq", "dk", "dv"};
  if (with_mask) {
    const bool learnt = here.contains("dmask");
    options.mask = learnt ? at("mask") : here.at("mask").to(device);
    if (learnt) {
      leaves.push_back(options.mask);
      gradients.push_back("dmask");
    }
  }
  for (Tensor& t : leaves) t.requires_grad_();
  const Tensor out = scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], options);
  note_kernels_run();
  const double limit = dtype == DType::f64 ? 1e-13 : 2e-6;
  EXPECT_LE(relative_error(out.to_doubles(), here.at("out").to_doubles()), limit);
  const auto got = grad(out, leaves, at("direction"));
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_LE(relative_error(got[i].to_doubles(), here.at(gradients[i]).to_doubles()), limit) << gradients[i];
  }
}

TEST(AttentionGolden, IsPyTorchs) {
  const StateDict values = golden("attention");
  for (const Device device : test_devices()) {
    for (const DType dtype : {DType::f64, DType::f32}) {
      const Tensor slopes = from_vector(std::vector<float>{0.5F, 0.125F}).to(device);
      compare(values, "plain", {}, false, dtype, device);
      compare(values, "causal", {.causal = true}, false, dtype, device);
      compare(values, "grouped", {.causal = true, .scale = 0.3}, false, dtype, device);
      compare(values, "learnt", {}, true, dtype, device);
      compare(values, "visible", {}, true, dtype, device);
      compare(values, "alibi", {}, true, dtype, device);
      compare(values, "alibi", {.alibi_slopes = slopes}, false, dtype, device);
      compare(values, "window", {}, true, dtype, device);
      compare(values, "window", {.window_left = 3, .window_right = 1}, false, dtype, device);
    }
  }
}

}  // namespace
}  // namespace trinix::testing
