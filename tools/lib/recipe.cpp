// What suits each optimizer in each preset.
#include <algorithm>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/config.h>

namespace trinix::tools {

namespace {

/// The numbers that differ from AdamW's, which are those of the preset.
struct Recipe {
  std::string_view preset;
  std::string_view optimizer;
  double lr;
  double min_lr;
  double weight_decay;
  double beta1;
  double beta2;
  double momentum;
  double muon_lr;
};

// Adam: AdamW's rates, without decay, which would pass through its moments. Lion: a fifth or a tenth of the rate and as
// many times the decay, and for the larger model the longer means that its authors take for language (Chen et al.,
// arXiv 2302.06675, section 5). Muon: steps scaled to AdamW's (Liu et al., arXiv 2502.16982), of which it takes larger
// ones, and for the larger model, which learns the text by heart, ten times the decay. SGD: rates a hundred times
// Adam's, which clipping tames (Zhao et al., arXiv 2407.07972). Those of shakespeare-char were searched for:
// bench/RESULTS.md.
constexpr Recipe kRecipes[] = {
    {"char-cpu", "adam", 3e-3, 1e-4, 0, 0.9, 0.99, 0.9, 6e-3},
    {"char-cpu", "lion", 6e-4, 2e-5, 0.5, 0.9, 0.99, 0.9, 6e-3},
    {"char-cpu", "muon", 3e-3, 1e-4, 0.1, 0.9, 0.99, 0.95, 6e-3},
    {"char-cpu", "sgd", 0.3, 0.01, 1e-4, 0.9, 0.99, 0.9, 6e-3},
    {"shakespeare-char", "adam", 1e-3, 1e-4, 0, 0.9, 0.99, 0.9, 6e-3},
    {"shakespeare-char", "lion", 1e-4, 1e-6, 1, 0.95, 0.98, 0.9, 6e-3},
    {"shakespeare-char", "muon", 1e-3, 1e-4, 1, 0.9, 0.99, 0.95, 6e-3},
    {"shakespeare-char", "sgd", 0.15, 0.002, 1e-4, 0.9, 0.99, 0.9, 6e-3},
};

}  // namespace

TrainConfig recipe(std::string_view preset_name, std::string_view optimizer) {
  TrainConfig config = preset(preset_name);
  config.optimizer = optimizer;
  const auto* found = std::find_if(std::begin(kRecipes), std::end(kRecipes), [&](const Recipe& r) {
    return r.preset == preset_name && r.optimizer == optimizer;
  });
  if (found == std::end(kRecipes)) return config;  // AdamW; validate() knows the names
  config.lr = found->lr;
  config.min_lr = found->min_lr;
  config.weight_decay = found->weight_decay;
  config.beta1 = found->beta1;
  config.beta2 = found->beta2;
  config.momentum = found->momentum;
  config.muon_lr = found->muon_lr;
  return config;
}

}  // namespace trinix::tools
