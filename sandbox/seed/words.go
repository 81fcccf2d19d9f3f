package seed

// The words of an electric-vehicle garage's day. Some are not ASCII on purpose.
var (
	cities = []string{"Pune", "Delhi", "Jaipur", "Indore", "Kochi", "Nagpur", "Surat", "Mysuru", "Bhopal", "Chennai",
		"Lucknow", "Patna", "Ranchi", "Guwahati", "Vadodara", "Nashik", "Thane", "Agra", "Madurai", "Kanpur"}
	garageFirst = []string{"Volt", "Amp", "Green Wheel", "Bright", "Charge", "Sun", "Swift", "Metro", "City", "Trident"}
	garageLast  = []string{"Works", "Motors", "EV Care", "Garage", "Mobility", "Service", "Auto"}
	people      = []string{"Asha Kulkarni", "Ravi Menon", "Neha Sharma", "Imran Shaikh", "Deepa Nair", "Arjun Rao",
		"Kavita Joshi", "Sanjay Gupta", "Meera Iyer", "Vikram Singh", "Fatima Khan", "Rohan Patil", "Zoë D’Souza", "अनिल वर्मा"}
	repairWords = []string{"battery", "pack", "cell", "imbalance", "BMS", "fault", "controller", "overheats", "charger",
		"connector", "loose", "range", "drops", "after", "rain", "brake", "regen", "noise", "hub", "motor", "hall", "sensor",
		"replaced", "checked", "firmware", "update", "harness", "fuse", "blown", "थ्रॉटल", "12 V", "converter", "–", "test", "ride"}
	vehicles = []string{"Ola S1 Pro", "Ather 450X", "TVS iQube", "Bajaj Chetak", "Hero Vida V1", "Tata Nexon EV",
		"Mahindra Treo", "Piaggio Ape E-City", "Euler HiLoad", "Ampere Magnus"}
	parts = []string{"Hall sensor", "BMS board 16S", "DC-DC converter", "Throttle assembly", "Hub motor bearing",
		"Contactor 150 A", "Type 2 gun", "Brake lever switch", "Cell 21700 5 Ah", "Thermal pad", "Fuse 40 A", "Wiring harness"}
	ticketStates  = []string{"open", "assigned", "in_progress", "awaiting_parts", "resolved", "closed"}
	priorities    = []string{"low", "medium", "high", "critical"}
	invoiceStates = []string{"draft", "sent", "sent", "paid", "paid", "paid", "overdue", "void"}
	streets       = []string{"MG Road", "Station Road", "Ring Road", "Nehru Chowk", "Linking Road", "Sector 18"}
)
