#include <algorithm>
#include <iterator>
#include <string_view>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/resume.h>

namespace trinix::tools {

namespace {

bool is_chosen(const TrainConfig& config, const char* name) {
  return std::find(config.chosen.begin(), config.chosen.end(), name) != config.chosen.end();
}

}  // namespace

TrainConfig resumed_config(const TrainConfig& given, const TrainConfig& saved) {
  constexpr std::string_view fixed[] = {"model",         "block",     "layers",    "heads",    "width",
                                        "bias",          "tokenizer", "attention", "kv-heads", "latent",
                                        "rope-head-dim", "position",  "window",    "qk-norm",  "tied-head"};
  if (given.optimizer != saved.optimizer && is_chosen(given, "optimizer")) {
    detail::fail<ConfigError>("resume",
                              "--optimizer {} cannot go on from what the checkpoint's {} remembers; leave the flag "
                              "out, or start a new run in another folder",
                              given.optimizer, saved.optimizer);
  }
  TrainConfig merged = saved;
  for (const std::string& name : given.chosen) {
    const ConfigField* field = find_field(name);
    if (field == nullptr) continue;
    const std::string value = value_text(given, *field);
    if (std::find(std::begin(fixed), std::end(fixed), field->name) != std::end(fixed) &&
        value != value_text(saved, *field)) {
      detail::fail<ConfigError>(
          "resume",
          "--{} {} differs from the checkpoint's {}: a model cannot change its shape; leave the flag out, or start a "
          "new run in another folder",
          field->name, value, value_text(saved, *field));
    }
    apply(merged, {.name = std::string(field->name), .value = value, .source = detail::format("--{}", name)});
  }
  merged.out = given.out;
  merged.resume = true;
  merged.chosen = given.chosen;
  validate(merged);
  return merged;
}

}  // namespace trinix::tools
