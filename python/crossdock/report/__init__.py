# SPDX-License-Identifier: Apache-2.0
"""python -m crossdock.report: lines of `crossdock bench --jsonl` as a page of plots and tables, or plots as SVG and PNG.

`lines` reads the input, `plots` selects what is drawn, `draw` makes pictures with matplotlib, `page` fills the template page.html."""
