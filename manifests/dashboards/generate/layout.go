package main

// row is a line of panels of one height. Their widths are shares of Grafana's 24 columns.
type row struct {
	height int
	panels []panel
}

const columns = 24

// place numbers the panels and gives each its place: rows from the top, panels from the left.
func place(rows []row) []panel {
	var all []panel
	y := 0
	for _, r := range rows {
		x := 0
		for _, p := range r.panels {
			p.ID = len(all) + 1
			p.GridPos = gridPos{H: r.height, W: p.GridPos.W, X: x, Y: y}
			x += p.GridPos.W
			all = append(all, p)
		}
		y += r.height
	}
	return all
}

// query is a line of a panel: an expression and the name of what it returns.
type query struct{ expr, legend string }

func targets(instant bool, queries []query) []target {
	all := make([]target, len(queries))
	for i, q := range queries {
		all[i] = target{
			RefID: string(rune('A' + i)), Datasource: prometheus, Expr: q.expr, LegendFormat: q.legend,
			Instant: instant, Range: !instant,
		}
	}
	return all
}

// timeseries draws lines. What is named "limit" is dashed and red, in every panel.
func timeseries(width int, title, description, unit string, queries ...query) panel {
	zero := 0.0
	p := panel{
		Type: "timeseries", Title: title, Description: description, Datasource: prometheus, GridPos: gridPos{W: width},
		Targets: targets(false, queries),
		FieldConfig: fieldConfig{
			Defaults:  fieldDefaults{Unit: unit, Min: &zero, Custom: map[string]any{"lineWidth": 2, "fillOpacity": 0, "showPoints": "never", "spanNulls": false}},
			Overrides: []override{{matcher{"byRegexp", ".*limit.*"}, []property{dashed(), fixed("red")}}},
		},
		Options: map[string]any{
			"legend":  map[string]any{"displayMode": "table", "placement": "right", "showLegend": true, "calcs": []string{"lastNotNull"}},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		},
	}
	return p
}

// stat shows the newest value of each query. With show "name" it shows the series' name, which is how text from a label is shown.
func stat(width int, title, description, unit, show string, queries ...query) panel {
	return panel{
		Type: "stat", Title: title, Description: description, Datasource: prometheus, GridPos: gridPos{W: width},
		Targets:     targets(true, queries),
		FieldConfig: fieldConfig{Defaults: fieldDefaults{Unit: unit, NoValue: "none", Color: map[string]any{"mode": "fixed", "fixedColor": "text"}}, Overrides: []override{}},
		Options: map[string]any{
			"textMode": show, "colorMode": "value", "graphMode": "none", "justifyMode": "center", "orientation": "horizontal", "wideLayout": false,
			"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		},
	}
}

// timeline draws a bar per series whose colour is its state.
func timeline(width int, title, description string, states []mapping, queries ...query) panel {
	return panel{
		Type: "state-timeline", Title: title, Description: description, Datasource: prometheus, GridPos: gridPos{W: width},
		Targets: targets(false, queries),
		FieldConfig: fieldConfig{Defaults: fieldDefaults{
			Unit: "short", Mappings: states, Custom: map[string]any{"fillOpacity": 80, "lineWidth": 0},
		}, Overrides: []override{}},
		Options: map[string]any{
			"mergeValues": true, "showValue": "never", "rowHeight": 0.8,
			"legend": map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true},
		},
	}
}

// state maps a value to a word and a colour.
func state(value, text, color string) mapping {
	return mapping{"value", map[string]any{value: map[string]any{"text": text, "color": color, "index": 0}}}
}

func dashed() property {
	return property{"custom.lineStyle", map[string]any{"fill": "dash", "dash": []int{8, 6}}}
}

func fixed(color string) property {
	return property{"color", map[string]any{"mode": "fixed", "fixedColor": color}}
}
