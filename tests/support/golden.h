#pragma once

#include <string>

#include <trinix/core/safetensors.h>
#include <trinix/core/state_dict.h>

/// Values computed by PyTorch; tests/golden/make_golden.py wrote them.
namespace trinix::testing {

inline StateDict golden(const std::string& name) {
  StateDict state;
  const auto file = SafetensorsFile::open(std::string(TRINIX_TEST_DATA) + "/../golden/" + name + ".safetensors");
  for (const auto& [key, tensor] : file.read_all()) state.insert(key, tensor);
  return state;
}

/// The entries whose names begin with `prefix`, without it.
inline StateDict below(const StateDict& state, const std::string& prefix) {
  StateDict part;
  for (const auto& [key, tensor] : state) {
    if (key.starts_with(prefix)) part.insert(key.substr(prefix.size()), tensor);
  }
  return part;
}

}  // namespace trinix::testing
