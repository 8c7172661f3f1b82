package correlation

// RuleExamples returns the example of each rule, by its name.
func RuleExamples() map[string]string {
	examples := map[string]string{}
	for _, r := range ruleTable {
		examples[r.name] = r.example
	}
	return examples
}

// DocumentedRules returns the rows of the table in the package's documentation.
func DocumentedRules() []string {
	rows := make([]string, 0, len(ruleTable))
	for _, r := range ruleTable {
		rows = append(rows, r.name+" | "+r.says+" | "+r.source)
	}
	return rows
}
