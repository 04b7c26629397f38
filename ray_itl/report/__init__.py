"""HTML reports.

Of a selection: selection_data (all it shows, as plain values), selection_page, selection_charts, mix_charts, table,
projection (the map). Of a fine-tuning: learning_data, learning_page, learning_charts, class_table, learning_words,
learning_savings (labels needed). Of a scheduled curation: ticks_page. For people who label: label_page. For all:
document (one self-contained, inert file), figures (charts in general). In notebooks: notebook. Of a data set of picks,
in Markdown: data_card.

Importing this package needs neither plotly nor jinja2; rendering a page does, and says so if one is missing.
"""
