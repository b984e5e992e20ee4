// SPDX-License-Identifier: Apache-2.0
#include "draw/svg_parts.hpp"

#include <cmath>
#include <cstdio>

namespace crossdock::tools {
namespace {

/// Two schemes.
constexpr const char* kStyle =
    R"(.ground{fill:#ffffff}.ink{fill:#1d2430}.soft{fill:#5a6472}.grid{stroke:#e3e6ea}.frame{stroke:#8b95a3;fill:none}
text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}.head{font-size:14px;font-weight:600}.strong{font-weight:600}
@media (prefers-color-scheme:dark){
.ground{fill:#14181f}.ink{fill:#e8ebf0}.soft{fill:#a3adba}.grid{stroke:#2a313c}.frame{stroke:#6d7887}}
)";

}  // namespace

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text)
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  return out;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

std::string tick_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value >= 10000 && std::fmod(value, 1000) == 0 ? "%.0fk" : "%.6g",
                value >= 10000 && std::fmod(value, 1000) == 0 ? value / 1000 : value);
  return text;
}

std::vector<double> linear_ticks(double most) {
  const double power = std::pow(10, std::floor(std::log10(most)));
  const double step = power * (most / power > 5 ? 1 : most / power > 2 ? 0.5 : 0.2);
  std::vector<double> ticks;
  for (int i = 0; i * step <= most * 1.0001; ++i) ticks.push_back(i * step);
  return ticks;
}

std::string text_at(double x, double y, const char* classes, const char* anchor, const std::string& text,
                    const char* more) {
  return "<text class=\"" + std::string(classes) + "\" x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" +
         anchor + "\"" + more + ">" + escaped(text) + "</text>\n";
}

std::string line_at(double x1, double y1, double x2, double y2) {
  return "<line class=\"grid\" x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) + "\" y2=\"" +
         number(y2) + "\"/>\n";
}

std::string svg_head(const std::string& name, const std::string& title, const std::string& description, double width,
                     double height, const char* more_style) {
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + std::to_string(int(width)) + " " +
                    std::to_string(int(height)) + "\" role=\"img\" aria-labelledby=\"" + name + "-t " + name +
                    "-d\">\n";
  out += "<title id=\"" + name + "-t\">" + escaped(title) + "</title>\n<desc id=\"" + name + "-d\">" +
         escaped(description) + "</desc>\n<style>\n" + kStyle + more_style + "</style>\n";
  return out + "<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n" +
         text_at(12, 22, "head ink", "start", title);
}

}  // namespace crossdock::tools
