#pragma once

#include <stdexcept>
#include <string>

/// @file
/// The exceptions of the library. Every message starts with the op's name in brackets, states both shapes, dtypes or
/// devices, and says what to do. A user's mistake never aborts, exits or asserts.

namespace trinix {

/// Base of everything the library throws on purpose.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Shapes that do not fit, or a shape whose size overflows.
class ShapeError : public Error {
  using Error::Error;
};
/// A dtype that the op does not take, or dtypes that must agree and do not.
class DtypeError : public Error {
  using Error::Error;
};
/// A device that is missing or differs between arguments.
class DeviceError : public Error {
  using Error::Error;
};
/// A dim or an index outside its range.
class IndexError : public Error {
  using Error::Error;
};
/// Misuse of the graph: backward twice, a saved tensor changed in place, an op without a backward.
class AutogradError : public Error {
  using Error::Error;
};
/// A kernel was asked for by name and cannot run; lists every candidate with its reason.
class KernelUnavailable : public Error {
  using Error::Error;
};
/// An allocation failed; states what was asked for, what is free, and the peak.
class OutOfMemory : public Error {
  using Error::Error;
};
/// A file whose contents break the format's rules.
class FormatError : public Error {
  using Error::Error;
};
/// The operating system refused to read or write.
class IoError : public Error {
  using Error::Error;
};
/// A value of an option that makes no sense.
class ConfigError : public Error {
  using Error::Error;
};

/// Something that cannot be part of a captured step (autograd/step_graph.h): reading a value on the host, waiting for
/// the device, copying from host memory.
class CaptureError : public Error {
  using Error::Error;
};

}  // namespace trinix
