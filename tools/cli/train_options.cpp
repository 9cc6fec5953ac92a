#include "cli/train_options.h"

#include <vector>

namespace trinix::cli {

namespace {

using tools::ConfigField;
using tools::TrainConfig;

std::string type_of(const ConfigField& field) {
  if (std::holds_alternative<bool TrainConfig::*>(field.member)) return "";
  if (std::holds_alternative<std::string TrainConfig::*>(field.member)) return "TEXT";
  return std::holds_alternative<double TrainConfig::*>(field.member) ? "NUMBER" : "COUNT";
}

/// The help, with the values of presets and of optimizers that differ from the default.
std::string help_of(const ConfigField& field) {
  std::string help(field.help);
  if (field.name == "preset" || field.name == "optimizer") return help;
  const std::string usual = tools::value_text(TrainConfig(), field);
  for (const std::string& preset : tools::preset_names()) {
    const std::string of_preset = tools::value_text(tools::preset(preset), field);
    std::string values;
    if (of_preset != usual) values = ": " + of_preset;
    for (const std::string& optimizer : tools::optimizer_names()) {
      const std::string value = tools::value_text(tools::recipe(preset, optimizer), field);
      if (value != of_preset) values += (values.empty() ? ": " : ", ") + (optimizer + " " + value);
    }
    if (!values.empty()) help += " (" + preset + values + ")";
  }
  return help;
}

/// What only a file can set, with the defaults.
std::string options_without_flag() {
  std::string list;
  for (const ConfigField& field : tools::config_fields()) {
    if (field.is_flag) continue;
    list += (list.empty() ? "" : ", ") + std::string(field.name) + " (" + tools::value_text(TrainConfig(), field) + ")";
  }
  return list;
}

}  // namespace

void add_train_options(Command& command) {
  const TrainConfig defaults;
  for (const ConfigField& field : tools::config_fields()) {
    if (!field.is_flag) continue;
    command.add({.name = "--" + std::string(field.name),
                 .help = help_of(field),
                 .type = type_of(field),
                 .usual = tools::value_text(defaults, field),
                 .group = std::string(field.group)});
    if (field.name == "preset") {
      command.add({.name = "--config",
                   .help = "TOML (`key = value` lines) or JSON file of these options; flags override it",
                   .type = "FILE",
                   .group = std::string(field.group)});
    }
  }
  command.set_footer("A file may also set what has no flag: " + options_without_flag() +
                     ".\n"
                     "Ctrl-C saves a checkpoint and exits with 130; a second Ctrl-C ends at once.");
}

tools::TrainConfig read_train_options(const Command& command) {
  std::vector<tools::ConfigChoice> file;
  if (const std::string* path = command.given("--config")) file = tools::read_config_file(*path);
  std::vector<tools::ConfigChoice> flags;
  for (const ConfigField& field : tools::config_fields()) {
    const std::string flag = "--" + std::string(field.name);
    const std::string* value = field.is_flag ? command.given(flag) : nullptr;
    if (value != nullptr) flags.push_back({std::string(field.name), *value, flag});
  }
  return tools::resolve_config(file, flags);
}

}  // namespace trinix::cli
