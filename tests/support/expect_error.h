#pragma once

#include <exception>
#include <gtest/gtest.h>
#include <string>

namespace trinix::testing {

/// What the E that `f` throws says. The test fails when it throws nothing, or something else.
template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  } catch (const std::exception& e) {
    ADD_FAILURE() << "another exception was thrown: " << e.what();
    return "";
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace trinix::testing
