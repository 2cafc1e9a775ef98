from fake_hub import fake_hub as fake_hub
