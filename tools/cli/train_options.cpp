#include "cli/train_options.h"

#include <vector>

namespace trinix::cli {

namespace {

using tools::ConfigField;
using tools::TrainConfig;

std::string type_of(const ConfigField& field) {
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

TrainOptions::TrainOptions(CLI::App& command) : command_(command) {
  const TrainConfig defaults;
  for (const ConfigField& field : tools::config_fields()) {
    if (!field.is_flag) continue;
    const std::string name(field.name);
    const std::string flag = "--" + name;
    if (std::holds_alternative<bool TrainConfig::*>(field.member)) {
      const std::string help = help_of(field);
      command.add_flag(flag, help)->group(std::string(field.group));
    } else {
      command.add_option(flag, values_[name], help_of(field))
          ->type_name(type_of(field))
          ->default_str(tools::value_text(defaults, field))
          ->take_last()
          ->group(std::string(field.group));
    }
    if (name == "preset") {
      command
          .add_option("--config", file_, "TOML (`key = value` lines) or JSON file of these options; flags override it")
          ->type_name("FILE")
          ->group(std::string(field.group));
    }
  }
  command.footer("A file may also set what has no flag: " + options_without_flag() +
                 ".\n"
                 "Ctrl-C saves a checkpoint and exits with 130; a second Ctrl-C ends at once.");
}

tools::TrainConfig TrainOptions::config() const {
  std::vector<tools::ConfigChoice> file;
  if (command_.count("--config") > 0) file = tools::read_config_file(file_);
  std::vector<tools::ConfigChoice> flags;
  for (const ConfigField& field : tools::config_fields()) {
    const std::string name(field.name);
    const std::string flag = "--" + name;
    if (!field.is_flag || command_.count(flag) == 0) continue;
    const auto value = values_.find(name);
    if (value == values_.end()) {
      flags.push_back({name, command_[flag]->as<bool>() ? "true" : "false", flag});
    } else {
      flags.push_back({name, value->second, flag});
    }
  }
  return tools::resolve_config(file, flags);
}

}  // namespace trinix::cli
