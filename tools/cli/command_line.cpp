#include "cli/command_line.h"

#include <algorithm>
#include <utility>

namespace trinix::cli {

namespace {

constexpr std::size_t kHelpColumn = 37;

}  // namespace

Command::Command(std::string name, std::string summary, Prepare prepare)
    : name_(std::move(name)), summary_(std::move(summary)), prepare_(std::move(prepare)) {}

void Command::add(Option option) { options_.push_back(std::move(option)); }

const Option* Command::find(std::string_view name) const {
  const auto found = std::find_if(options_.begin(), options_.end(), [&](const Option& o) { return o.name == name; });
  return found == options_.end() ? nullptr : &*found;
}

/// The first argument without a flag that nothing was given to.
const Option* Command::next_argument() const {
  const auto found = std::find_if(options_.begin(), options_.end(),
                                  [&](const Option& o) { return !o.is_flag() && given(o.name) == nullptr; });
  return found == options_.end() ? nullptr : &*found;
}

bool Command::parse(std::span<char* const> words) {
  bool only_arguments = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (only_arguments || !word.starts_with('-') || word == "-") {
      const Option* argument = next_argument();
      if (argument == nullptr) throw UsageError("'" + std::string(word) + "' was not expected");
      given_.push_back({argument->name, std::string(word)});
      continue;
    }
    if (word == "--") {
      only_arguments = true;
      continue;
    }
    if (word == "--help" || word == "-h") return false;
    const std::size_t equals = word.find('=');
    const std::string name(word.substr(0, equals));
    const Option* option = find(name);
    if (option == nullptr) throw UsageError("there is no option " + name);
    if (equals != std::string_view::npos) {
      given_.push_back({name, std::string(word.substr(equals + 1))});
    } else if (!option->takes_value()) {
      given_.push_back({name, "true"});
    } else {
      // Whatever follows is the value, also "-1"; but another option is a value forgotten.
      if (i + 1 == words.size() || find(words[i + 1]) != nullptr) {
        throw UsageError(name + " needs a value: " + option->type);
      }
      given_.push_back({name, words[++i]});
    }
  }
  return true;
}

const std::string* Command::given(std::string_view option) const {
  const auto last = std::find_if(given_.rbegin(), given_.rend(), [&](const Given& g) { return g.name == option; });
  return last == given_.rend() ? nullptr : &last->value;
}

std::string help_line(const std::string& name, const std::string& help) {
  std::string line = "  " + name;
  if (line.size() + 1 > kHelpColumn) line += "\n";
  const std::size_t used = line.ends_with('\n') ? 0 : line.size();
  return line + std::string(kHelpColumn - used, ' ') + help + "\n";
}

std::string Command::help() const {
  std::string arguments, usage = "Usage: trinix " + name_ + " [OPTIONS]";
  std::vector<std::string> groups = {"Options"};
  for (const Option& option : options_) {
    if (!option.is_flag()) {
      usage += " [" + option.name + "]";
      arguments += help_line(option.name + " " + option.type, option.help);
    } else if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) {
      groups.push_back(option.group);
    }
  }
  std::string text = summary_ + "\n" + usage + "\n";
  if (!arguments.empty()) text += "\nArguments:\n" + arguments;
  for (const std::string& group : groups) {
    text += "\n" + group + ":\n";
    if (group == "Options") text += help_line("-h, --help", "print this and exit");
    for (const Option& option : options_) {
      if (!option.is_flag() || option.group != group) continue;
      std::string name = option.name;
      if (option.takes_value()) name += " " + option.type;
      if (option.takes_value() && !option.usual.empty()) name += "=" + option.usual;
      text += help_line(name, option.help);
    }
  }
  if (!footer_.empty()) text += "\n" + footer_ + "\n";
  return text;
}

}  // namespace trinix::cli
